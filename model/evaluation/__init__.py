"""How good a checkpoint is, in figures that need no pretrained network.

Seeds and choices are fixed: the same checkpoint and numerics give the same figures. Every
evaluation has ``steps`` (for a progress bar), ``run(on_step)``, which yields a line for each
figure as it is known, and ``report()``.
"""
