"""The flow transformer: a noisy picture, its time and a prompt in, the clean picture out.

A plain transformer on raw patches that predicts the clean picture itself (x-prediction, "Back to
basics: let denoising generative models denoise", Li and He 2025). Promises one forward pass with
no state. Knows nothing about losses, solvers, guidance or strings.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.blocks import ModulatedBlock, RMSNorm, rotary_table
from model.config import FlowConfig
from model.patches import from_patches, to_patches
from model.text import PromptEncoder


def time_features(time: Tensor, count: int) -> Tensor:
    """Sinusoidal features [B, count] of times [B] in 0…1 (as in DiT, with t scaled by 1000)."""
    half = count // 2
    frequency = torch.exp(
        -math.log(10_000.0) * torch.arange(half, dtype=torch.float32, device=time.device) / half
    )
    angle = 1000.0 * time.float()[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=1)


class PromptEncoding(NamedTuple):
    """What the trunk needs of a prompt, for B prompts."""

    prefix: Tensor  # [B, summary, W], tokens put before the patches
    vector: Tensor  # [B, W], added to the time's
    layout: Tensor  # [B, grid², W], added to the patches


class PromptReader(nn.Module):
    """A prompt's encoding, made ready for the trunk once for each picture, not once a step.

    From the summary tokens come: the trunk's prefix, a vector added to the time's, and a
    *layout*: a first idea of the picture, small in size and cut into the same patches. It is one
    small network from the whole prompt to the whole picture, so what a prompt looks like is
    learned with few operations; the trunk does the rest.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.encoder = PromptEncoder(config.text)
        summary = config.text.summary * config.text.width
        self.prefix = nn.Linear(config.text.width, config.width)
        self.vector = nn.Linear(summary, config.width)
        self.layout_in = nn.Linear(summary, config.layout_width)
        self.layout_shape = (config.layout_channels, config.layout_size, config.layout_size)
        self.layout_out = nn.Linear(config.layout_width, math.prod(self.layout_shape))
        self.layout_patch = config.layout_size // config.grid
        patch = config.layout_channels * self.layout_patch**2
        self.layout_embed = nn.Linear(patch, config.width, bias=False)

    def forward(self, tokens: Tensor) -> PromptEncoding:
        """tokens [B, T ≤ max_tokens], padded."""
        summary = self.encoder(tokens)
        flat = summary.flatten(1)
        return PromptEncoding(
            self.prefix(summary), self.vector(flat), self.lay_out(self.layout_in(flat))
        )

    def lay_out(self, idea: Tensor) -> Tensor:
        """An idea of a picture [B, layout_width] → its layout [B, grid², W]."""
        layout = self.layout_out(F.silu(idea)).unflatten(1, self.layout_shape)
        return self.layout_embed(to_patches(layout, self.layout_patch))


class FlowTransformer(nn.Module):
    """`PromptReader` and trunk. ``forward`` is for training; serving calls the two apart."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.channels * config.patch_size**2
        self.reader = PromptReader(config)
        self.patch_embed = nn.Linear(patch, width)
        self.time_embed = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(
            ModulatedBlock(width, config.heads) for _ in range(config.depth)
        )
        self.norm = RMSNorm(width)
        self.patch_out = nn.Linear(width, patch)
        # Sees across the borders of patches, and the noisy picture itself.
        self.refine = nn.Conv2d(2 * config.channels, config.channels, 3, padding=1)
        # Positions in eighths of the picture, so that a coarse and a fine grid agree on places.
        side = (torch.arange(config.grid) + 0.5) * (8 / config.grid) + 0.5
        grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).view(-1, 2)
        positions = torch.cat((torch.zeros(config.text.summary, 2), grid))
        table = rotary_table(positions, width // config.heads, base=100.0)
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Every block starts as the identity and the picture as zero (adaLN-zero)."""
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.zeros_(self.patch_out.weight)
        nn.init.zeros_(self.patch_out.bias)
        nn.init.zeros_(self.refine.weight)
        assert self.refine.bias is not None
        nn.init.zeros_(self.refine.bias)

    def read(self, tokens: Tensor) -> PromptEncoding:
        """tokens [B, T ≤ max_tokens], padded → what `denoise` needs of the prompts."""
        encoding: PromptEncoding = self.reader(tokens)
        return encoding

    def denoise(self, noisy: Tensor, time: Tensor, prompt: PromptEncoding) -> Tensor:
        """noisy [B, C, H, W], time [B] (0 noise, 1 picture) → the clean picture [B, C, H, W]."""
        prefix, vector, layout = prompt
        config = self.config
        patches = self.patch_embed(to_patches(noisy, config.patch_size))
        x = torch.cat((prefix, patches + layout), dim=1)
        condition = self.time_embed(time_features(time, 256).to(vector.dtype)) + vector
        modulation = self.modulation(F.silu(condition)).unflatten(1, (6, -1))
        for block in self.blocks:
            x = block(x, modulation, self.table)
        x = self.patch_out(self.norm(x[:, config.text.summary :]))
        x = from_patches(x, config.patch_size, config.image_size)
        refined: Tensor = x + self.refine(torch.cat((x, noisy.to(x.dtype)), dim=1))
        return refined

    def forward(self, noisy: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        return self.denoise(noisy, time, self.read(tokens))
