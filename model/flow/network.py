"""The flow transformer: a noisy image, its time and a prompt in, the clean image out.

A plain transformer on raw patches that predicts the clean image itself (x-prediction, "Back to
basics: let denoising generative models denoise", Li and He 2025).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.flow.concepts import ConceptMemory
from model.flow.config import FlowConfig
from model.layers import (
    ModulatedBlock,
    PromptEncoder,
    RMSNorm,
    from_patches,
    rotary_table,
    to_patches,
)
from model.runtime.smoothing import moments


def time_features(time: Tensor, count: int) -> Tensor:
    """Sinusoidal features [B, count] of times [B] in 0…1 (as in DiT, with t scaled by 1000)."""
    half = count // 2
    frequency = torch.exp(
        -math.log(10_000.0) * torch.arange(half, dtype=torch.float32, device=time.device) / half
    )
    angle = 1000.0 * time.float()[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=1)


MOST_MISSED = 0.005
"""Variance, of values in −1…1, of the detail that an enlarged image is taken to lack. It lacks more
(0.009 on average, of emoji), but with more the edges of what is drawn would be grainy."""


def as_if_smaller(noisy: Tensor, time: Tensor, enlarged: float) -> tuple[Tensor, Tensor]:
    """z_t and t of the image that has ``enlarged`` times fewer pixels a side, as noisy.

    Means over blocks of pixels have that many times less noise: t·x + (1 − t)·ε / enlarged is
    z_s · t / s where s = enlarged·t / (1 + (enlarged − 1)·t) (Esser et al. 2024, section 5.3.2).
    noisy [B, C, H, W], time [B].
    """
    scale = enlarged / (1 + (enlarged - 1) * time)
    return noisy * scale[:, None, None, None].to(noisy.dtype), time * scale


def sharpened(drawn: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
    """The drawn image x̂ [B, C, H, W] with what z_t, ``noisy``, tells of the detail that it misses.

    It is the mean of x where x ~ N(x̂, v), with v the variance of x̂ over 3 x 3 pixels, at most
    `MOST_MISSED`, and z_t ~ N(t·x, (1 − t)²): edges follow z_t where it has little noise, flat
    areas stay as they were drawn.
    """
    x, t = drawn.float(), time.float()[:, None, None, None]
    with torch.no_grad():
        _, variance = moments(x)
        missed = variance.clamp(max=MOST_MISSED)
        noise = (1 - t).clamp(min=1e-3).square()
        gain = t * missed / (t.square() * missed + noise)
    return (x + gain * (noisy - t * x)).to(drawn.dtype)


class PromptEncoding(NamedTuple):
    """What the trunk needs of a prompt, for B prompts."""

    prefix: Tensor  # [B, summary, W], tokens put before the patches
    vector: Tensor  # [B, W], added to the time's
    layout: Tensor  # [B, grid², W], added to the patches


class PromptReader(nn.Module):
    """A prompt's encoding, made ready for the trunk once for each image, not once a step.

    From the summary tokens come: the trunk's prefix, a vector added to the time's, and a *layout*:
    a small coarse image of ``layout_channels``, cut into the same patches. It is made by one small
    network from the whole prompt to the whole image, so what a prompt looks like is learned with
    few operations; the trunk does the rest.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.encoder = PromptEncoder(**asdict(config.text))
        self.concepts = ConceptMemory(config.concepts, config.text) if config.concepts else None
        summary = config.text.summary * config.text.width
        self.prefix = nn.Linear(config.text.width, config.width)
        self.vector = nn.Linear(summary, config.width)
        self.layout_in = nn.Linear(summary, config.layout_width)
        self.layout_shape = (config.layout_channels, config.layout_size, config.layout_size)
        self.layout_out = nn.Linear(config.layout_width, math.prod(self.layout_shape))
        self.layout_patch = config.layout_size // config.grid
        patch = config.layout_channels * self.layout_patch**2
        self.layout_embed = nn.Linear(patch, config.width, bias=False)

    def forward(self, tokens: Tensor, *, likeliest: bool = False) -> PromptEncoding:
        """tokens [B, T ≤ max_tokens], padded; ``likeliest`` as in `ConceptMemory.forward`."""
        summary = self.encoder(tokens)
        if self.concepts is not None:
            summary = self.concepts(summary, likeliest=likeliest)
        return self.prepared(summary)

    def prepared(self, summary: Tensor) -> PromptEncoding:
        """What follows from the summary tokens [B, summary, text width]."""
        flat = summary.flatten(1)
        return PromptEncoding(
            self.prefix(summary), self.vector(flat), self.lay_out(self.layout_in(flat))
        )

    def lay_out(self, hidden: Tensor) -> Tensor:
        """The layout network's hidden layer [B, layout_width] → the layout [B, grid², W]."""
        layout = self.layout_out(F.silu(hidden)).unflatten(1, self.layout_shape)
        return self.layout_embed(to_patches(layout, self.layout_patch))


class Polish(nn.Module):
    """Two convolutions over the whole image: what patches, each drawn alone, cannot agree on.

    They see the drawn and the noisy image, and how noisy it is. They add nothing at first.
    """

    def __init__(self, channels: int, hidden: int, width: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(2 * channels, hidden, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * hidden)
        self.out = nn.Conv2d(hidden, channels, 3, padding=1)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, drawn: Tensor, noisy: Tensor, condition: Tensor) -> Tensor:
        """drawn and noisy [B, C, H, W], condition [B, W] → what is added to drawn."""
        scale, shift = self.modulation(F.silu(condition))[:, :, None, None].chunk(2, dim=1)
        hidden = F.silu(self.into(torch.cat((drawn, noisy), dim=1)) * (1 + scale) + shift)
        added: Tensor = self.out(hidden)
        return added


class Trunk(nn.Module):
    """What flow and gan share: modulated blocks over a prompt's prefix and a token for each patch.

    Subclasses call `add_trunk` where its weights belong among theirs.
    """

    modulation: nn.Linear
    blocks: nn.ModuleList
    norm: RMSNorm
    patch_out: nn.Linear
    detail: nn.Sequential | None
    table: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config

    def add_trunk(self) -> None:
        """Every block starts as the identity (adaLN-zero)."""
        config = self.config
        width = config.width
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(
            ModulatedBlock(width, config.heads) for _ in range(config.depth)
        )
        self.norm = RMSNorm(width)
        patch = config.channels * config.patch_size**2
        self.patch_out = nn.Linear(width, patch)
        self.detail = None
        if config.detail_width:
            # A linear map cannot draw every patch that has more values than a token has channels.
            last = nn.Linear(config.detail_width, patch, bias=False)
            self.detail = nn.Sequential(nn.Linear(width, config.detail_width), nn.SiLU(), last)
            nn.init.zeros_(last.weight)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.zeros_(self.patch_out.bias)
        # In eighths of the image, so that coarse and fine grids agree on where things are.
        side = (torch.arange(config.grid) + 0.5) * (8 / config.grid) + 0.5
        grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).view(-1, 2)
        positions = torch.cat((torch.zeros(config.text.summary, 2), grid))
        table = rotary_table(positions, width // config.heads, base=100.0)
        self.register_buffer("table", table, persistent=False)

    def run_trunk(self, prefix: Tensor, patches: Tensor, condition: Tensor) -> Tensor:
        """prefix [B, summary, W], patches [B, grid², W], condition [B, W] → image [B, C, H, W]."""
        config = self.config
        x = torch.cat((prefix, patches), dim=1)
        modulation = self.modulation(F.silu(condition)).unflatten(1, (6, -1))
        for block in self.blocks:
            x = block(x, modulation, self.table)
        x = self.norm(x[:, config.text.summary :])
        x = self.patch_out(x) if self.detail is None else self.patch_out(x) + self.detail(x)
        return from_patches(x, config.patch_size, config.image_size)


class FlowTransformer(Trunk):
    """`PromptReader` and trunk. ``forward`` is for training; serving calls the two apart."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        width = config.width
        self.reader = PromptReader(config)
        self.patch_embed = nn.Linear(config.channels * config.patch_size**2, width)
        self.time_embed = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.add_trunk()
        self.polish = (
            Polish(config.channels, config.polish_channels, width)
            if config.polish_channels
            else None
        )
        # Sees across the borders of patches, and the noisy image itself.
        self.refine = nn.Conv2d(2 * config.channels, config.channels, 3, padding=1)
        for layer in (self.patch_out, self.refine):  # the image starts as zero
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def read(self, tokens: Tensor, *, likeliest: bool = False) -> PromptEncoding:
        """tokens [B, T ≤ max_tokens], padded → what `denoise` needs of the prompts; ``likeliest``
        as in `ConceptMemory.forward`."""
        encoding: PromptEncoding = self.reader(tokens, likeliest=likeliest)
        return encoding

    def denoise(self, noisy: Tensor, time: Tensor, prompt: PromptEncoding) -> Tensor:
        """noisy [B, C, H, W], time [B] (0 noise, 1 image) → the clean image [B, C, H, W].

        Where images are ``enlarged`` times as large as those that the first weights were trained
        on, see `as_if_smaller` and `sharpened`.
        """
        if not (enlarged := self.config.enlarged):
            return self._drawn(noisy, time, prompt)
        drawn = self._drawn(*as_if_smaller(noisy, time, enlarged), prompt)
        return sharpened(drawn, noisy, time)

    def _drawn(self, noisy: Tensor, time: Tensor, prompt: PromptEncoding) -> Tensor:
        prefix, vector, layout = prompt
        patches = self.patch_embed(to_patches(noisy, self.config.patch_size)) + layout
        condition = self.time_embed(time_features(time, 256).to(vector.dtype)) + vector
        x = self.run_trunk(prefix, patches, condition)
        noisy = noisy.to(x.dtype, memory_format=torch.channels_last)  # as x is
        refined: Tensor = x + self.refine(torch.cat((x, noisy), dim=1))
        return refined if self.polish is None else refined + self.polish(refined, noisy, condition)

    def forward(self, noisy: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        return self.denoise(noisy, time, self.read(tokens))
