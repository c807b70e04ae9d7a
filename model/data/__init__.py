"""Picture sets for training and evaluation: folders, emoji, CIFAR-10 → pictures and prompts."""
