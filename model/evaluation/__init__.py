"""How good a checkpoint is, in figures that need no pretrained network.

Seeds and choices are fixed: the same checkpoint and numerics give the same figures.
"""
