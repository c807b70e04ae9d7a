"""The gan family: a latent becomes an image in one pass, trained against a discriminator."""
