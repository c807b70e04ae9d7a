"""Finite scalar quantisation (FSQ, Mentzer et al. 2023): numbers to codes by rounding.

Each dimension is bounded and rounded to a few levels; a code is a point of that grid. There is no
codebook to learn: no vector can fall out of use as in a VQ codec (where a whole codebook may
collapse to a few entries), and no commitment loss, reset or average has to be tuned against it.
Knows nothing about pictures.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

EDGE = 1e-3
"""How far bounded values may go beyond the outermost level's middle, as a share."""


class Quantizer(nn.Module):
    """Points [..., D] of any size ↔ levels −1…1 [..., D] ↔ codes [...], for D dimensions."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.values = math.prod(levels)
        basis = [math.prod(levels[:place]) for place in range(len(levels))]
        self.levels: Tensor
        self.basis: Tensor
        # Whole numbers, so that a change of the network's dtype leaves them alone.
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor(basis), persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        """The nearest levels, fp32; gradients pass the rounding as if it were not there."""
        steps = self.levels.float() - 1
        half = steps * (1 + EDGE) / 2
        # An even number of levels has none at zero: half a step aside, and back.
        offset = (self.levels % 2 == 0).float() / 2
        bounded = (points.float() + (offset / half).atanh()).tanh() * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self.levels // 2)

    def codes(self, levels: Tensor) -> Tensor:
        """Levels [..., D] as `forward` gives them → codes [...], 0 up to ``values``."""
        half = self.levels // 2
        digits = (levels * half).round().long() + half
        return (digits * self.basis).sum(-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [...] → their levels, fp32 [..., D]."""
        half = self.levels // 2
        digits = codes[..., None] // self.basis % self.levels
        return (digits - half).float() / half
