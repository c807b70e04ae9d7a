"""The codec: an image ↔ a grid of places with a few codes each.

The codes of a place depend on no patch after it, row by row from the top: the upper part of an
image has the codes that it has in the whole image, and a transformer that continues it sees nothing
of what it has to draw. The decoder sees all codes at once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.gpt.config import CodecConfig
from model.layers import HIDDEN, Block, RMSNorm, from_patches, rotary_table, to_patches

DETAIL = 16
"""Channels of the layer that smooths the seams between patches."""


class Codec(nn.Module):
    """Patches through a transformer to codes, and through another back to patches."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.channels * config.patch_size**2
        latent = config.codes * len(config.levels)
        self.quantizer = Quantizer(config.levels)
        self.patch_in = nn.Linear(patch, width)
        self.encoder_blocks = _blocks(config, config.encoder_depth)
        self.encoder_norm = RMSNorm(width)
        self.latent_out = nn.Linear(width, latent)
        self.latent_in = nn.Linear(latent, width)
        self.decoder_blocks = _blocks(config, config.decoder_depth)
        self.decoder_norm = RMSNorm(width)
        self.patch_out = nn.Linear(width, patch)
        self.detail_in = nn.Conv2d(config.channels, DETAIL, 3, padding=1)
        self.detail_out = nn.Conv2d(DETAIL, config.channels, 3, padding=1)
        for module in (self.patch_out, self.detail_out):
            nn.init.zeros_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        side = torch.arange(config.grid)
        grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).view(-1, 2)
        self.table: Tensor
        self.causal: Tensor
        table = rotary_table(grid, width // config.heads, base=100.0)
        later = torch.ones(config.places, config.places).triu(1)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("causal", later * HIDDEN, persistent=False)

    def encode(self, picture: Tensor) -> Tensor:
        """[B, C, H, W] in −1…1 → codes [B, places, codes]."""
        return self.quantizer.codes(self._levels(picture))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, places, codes] → the image [B, C, H, W], about −1…1."""
        return self._picture(self.quantizer.decode(codes))

    def forward(self, picture: Tensor) -> Tensor:
        """The image as its codes give it back; differentiable."""
        return self._picture(self._levels(picture))

    def _levels(self, picture: Tensor) -> Tensor:
        """→ fp32 [B, places, codes, dimensions]."""
        x = self.patch_in(to_patches(picture, self.config.patch_size))
        bias = self.causal.expand(len(x), -1, -1)
        for block in self.encoder_blocks:
            x = block(x, self.table, bias)
        points = self.latent_out(self.encoder_norm(x))
        levels: Tensor = self.quantizer(points.unflatten(-1, (self.config.codes, -1)))
        return levels

    def _picture(self, levels: Tensor) -> Tensor:
        config = self.config
        x = self.latent_in(levels.flatten(-2).to(self.latent_in.weight.dtype))
        for block in self.decoder_blocks:
            x = block(x, self.table)
        patches = self.patch_out(self.decoder_norm(x))
        rough = from_patches(patches, config.patch_size, config.image_size)
        picture: Tensor = rough + self.detail_out(F.silu(self.detail_in(rough)))
        return picture


def _blocks(config: CodecConfig, depth: int) -> nn.ModuleList:
    return nn.ModuleList(Block(config.width, config.heads) for _ in range(depth))


EDGE = 1e-3
"""How far bounded values may go beyond the outermost level's middle, as a share."""


class Quantizer(nn.Module):
    """Points [..., D] of any size ↔ levels −1…1 [..., D] ↔ codes [...], for D dimensions.

    Finite scalar quantisation (FSQ, Mentzer et al. 2023): each dimension is bounded and rounded to
    a few levels; a code is a point of that grid. There is no codebook to learn: no vector can fall
    out of use as in a VQ codec (where a whole codebook may collapse to a few entries), and no
    commitment loss, reset or average has to be tuned against it.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.values = math.prod(levels)
        basis = [math.prod(levels[:index]) for index in range(len(levels))]
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
