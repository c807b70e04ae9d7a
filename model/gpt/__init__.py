"""A generative pretrained transformer over text and the codes of images."""
