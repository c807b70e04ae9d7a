"""How good a checkpoint is, in figures that need no pretrained network.

Seeds and choices are fixed: the same checkpoint and numerics give the same figures.
"""

from pathlib import Path

SHIPPED_ENCODER = Path(__file__).with_name("encoder.safetensors")
"""In whose features sets of pictures are compared, see `model.evaluation.encoder`."""
