"""The gan family: a latent becomes a picture in one pass, learned against a critic."""
