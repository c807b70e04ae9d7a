"""A network that draws a symbol in one style from its images in the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.flow.network import time_features
from tools.counterparts.sources import CHANNELS, DISTORTIONS


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a network and of its images. Sizes are pixels along a side."""

    size: int  # of what is drawn
    shown: int  # of what is shown
    places: int  # along a side, of what the network sees as one place
    widths: Sequence[int]  # channels, at these places, at half as many, and so on


SHAPES = {
    shape.size: shape
    for shape in (Shape(128, 64, 32, (128, 256, 512)), Shape(32, 32, 16, (64, 128, 256)))
}
"""By size. The small one learns on two cores in an hour."""


class ResidualBlock(nn.Module):
    """Two convolutions, modulated by a condition."""

    def __init__(self, into: int, out: int, condition: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(8, into), nn.GroupNorm(8, out)
        self.conv_in = nn.Conv2d(into, out, 3, padding=1)
        self.conv_out = nn.Conv2d(out, out, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * out)
        self.skip = nn.Conv2d(into, out, 1) if into != out else nn.Identity()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, into, H, W], condition [B, condition] → [B, out, H, W]."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv_in(F.silu(self.norm_in(x)))
        hidden = F.silu(self.norm_out(hidden) * (1 + scale) + shift)
        out: Tensor = self.skip(x) + self.conv_out(self.dropout(hidden))
        return out


class CounterpartNetwork(nn.Module):
    """A U-Net (Ronneberger et al. 2015): images of a symbol, and a noisy one to be made clean.

    It is told how what it is shown was distorted (Karras et al. 2022, "Elucidating the design
    space", appendix F.2), so that what is not distorted looks as its style does.
    """

    def __init__(self, styles: int, shape: Shape) -> None:
        super().__init__()
        self.shape, widths = shape, shape.widths
        condition = 256
        self.style = nn.Embedding(styles, condition)
        self.time = nn.Sequential(
            nn.Linear(256, condition), nn.SiLU(), nn.Linear(condition, condition)
        )
        self.distortion = nn.Linear(DISTORTIONS, condition)
        shown = (styles + 1) * (CHANNELS * (shape.shown // shape.places) ** 2 + 1)
        self.patch = shape.size // shape.places
        self.shown_in = nn.Conv2d(shown, widths[0], 3, padding=1)
        self.noisy_in = nn.Conv2d(CHANNELS * self.patch**2, widths[0], 3, padding=1)
        down = zip((widths[0], *widths), widths, strict=False)
        self.down = nn.ModuleList(ResidualBlock(a, b, condition) for a, b in down)
        last = widths[-1]
        self.middle = nn.ModuleList(ResidualBlock(last, last, condition) for _ in range(2))
        up = [
            (2 * last, last),
            *((a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)),
        ]
        self.up = nn.ModuleList(ResidualBlock(a, b, condition) for a, b in up)
        self.norm = nn.GroupNorm(8, widths[0])
        self.out = nn.Conv2d(widths[0], CHANNELS * self.patch**2, 3, padding=1)

    def forward(
        self,
        shown: Tensor,
        mask: Tensor,
        style: Tensor,
        distortion: Tensor,
        noisy: Tensor,
        time: Tensor,
    ) -> Tensor:
        """The fields of an `Asked`, noisy [B, C, H, W] and its time [B] → an image [B, C, H, W]."""
        places = F.pixel_unshuffle(shown.flatten(1, 2), self.shape.shown // self.shape.places)
        seen = mask[:, :, None, None].to(places.dtype).expand(-1, -1, *places.shape[2:])
        x = self.shown_in(torch.cat((places, seen), dim=1))
        noisy = noisy * (time > 0)[:, None, None, None]  # at first there is nothing in it
        x = x + self.noisy_in(F.pixel_unshuffle(noisy, self.patch))
        condition = F.silu(
            self.time(time_features(time, 256)) + self.style(style) + self.distortion(distortion)
        )
        kept = []
        for block in self.down:
            x = block(x, condition)
            kept.append(x)
            x = F.avg_pool2d(x, 2)
        for block in self.middle:
            x = block(x, condition)
        for block in self.up:
            x = F.interpolate(x, scale_factor=2)
            x = block(torch.cat((x, kept.pop()), dim=1), condition)
        return F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.patch)
