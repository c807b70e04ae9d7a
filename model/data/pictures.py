"""What every data set becomes: pictures in one array, prompts beside them, groups to sample from.

Values run from −1 to 1 in the model and from 0 to 255 here. A picture with transparency is kept
with its colours premultiplied by alpha, so that resizing and an L2 loss never see the colour of
what cannot be seen. Knows nothing about models.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Prompter = Callable[[random.Random], str]
"""Draws one of the prompts that describe a picture."""


def premultiplied(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """A picture as premultiplied RGBA [4, size, size]; padded to a square, resized by Lanczos."""
    rgba = picture.convert("RGBA").convert("RGBa")
    side = max(rgba.size)
    if rgba.size != (side, side):
        square = Image.new("RGBa", (side, side))
        square.paste(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2))
        rgba = square
    if side != size:
        rgba = rgba.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(rgba).transpose(2, 0, 1)
    return np.minimum(pixels, pixels[3:])  # Lanczos may overshoot alpha


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Pictures with their prompts.

    ``groups`` are indices of pictures that share one turn when sampling, so that a symbol with
    five skin tones is not seen five times as often as one without.
    """

    name: str
    pictures: NDArray[np.uint8]  # [N, C, H, W], premultiplied where C is 4
    captions: Sequence[str]  # the one prompt that stands for the picture, for samples and scores
    prompters: Sequence[Prompter]  # what training draws from
    groups: Sequence[Sequence[int]]
    skipped: int = 0  # files that were no pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, count: int, draw: random.Random) -> tuple[Tensor, list[str]]:
        """``count`` pictures, fp32 [count, C, H, W] in −1…1, uniform over groups, and prompts."""
        rows = [draw.choice(draw.choice(self.groups)) for _ in range(count)]
        return self.tensor(rows), [self.prompters[row](draw) for row in rows]

    def tensor(self, rows: Sequence[int]) -> Tensor:
        """The pictures at ``rows``, fp32 [len(rows), C, H, W] in −1…1."""
        return torch.from_numpy(self.pictures[list(rows)]).float() / 127.5 - 1
