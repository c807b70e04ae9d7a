"""Files to pixels, within limits: for uploads and for training. Imports no torch."""
