"""What every data set becomes: images in one array, prompts beside them, groups to sample from.

Values run from −1 to 1 in the model and from 0 to 255 here. An image with transparency is kept
with its colours premultiplied by alpha, so that resizing and an L2 loss never see the colour of
what cannot be seen.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

CROWD = 0.35
"""A group of n images has a weight of n to this power: with 0 every group has the same, and each of
its images is seldom seen; with 1 every image has the same."""

Prompter = Callable[[random.Random], str]
"""Draws one of the prompts that describe an image."""


@dataclass(frozen=True, slots=True)
class Caption:
    """The prompter of an image with one caption."""

    text: str

    def __call__(self, draw: random.Random) -> str:
        return self.text


class DataError(Exception):
    """A data set cannot be used. ``str()`` names the path and says why."""


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """What every image is converted to."""

    size: int
    channels: Literal[3, 4] = 4  # 3: RGB on white; 4: premultiplied RGBA

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """[channels, size, size]: padded to a square, resized by Lanczos."""
        rgba = picture.convert("RGBA").convert("RGBa")
        side = max(rgba.size)
        if rgba.size != (side, side):
            square = Image.new("RGBa", (side, side))
            square.paste(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2))
            rgba = square
        if side != self.size:
            # A photo is averaged to thrice the size first: as good, in a fraction of the time.
            size = (self.size, self.size)
            rgba = rgba.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        values = np.asarray(rgba).transpose(2, 0, 1)
        values = np.minimum(values, values[3:])  # Lanczos may overshoot alpha
        return values if self.channels == 4 else values[:3] + (255 - values[3:])


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Images with their prompts.

    ``groups`` are indices of images that are sampled as one, so that a symbol with
    five skin tones is not seen five times as often as one without (but more often, see `CROWD`).
    """

    name: str
    pictures: NDArray[np.uint8]  # [N, C, H, W], premultiplied where C is 4; may be a mapped file
    captions: Sequence[str]  # the one prompt that stands for the image, for samples and scores
    prompters: Sequence[Prompter]  # what training draws from
    groups: Sequence[Sequence[int]]
    skipped: int = 0  # files that were no images
    notes: Sequence[str] = ()  # what else was left out, or is missing, for whoever trains on it
    resident: Tensor | None = None  # the images once more, on the device that reads them

    @property
    def fingerprint(self) -> str:
        """Of all images and captions: 16 hexadecimal digits."""
        total = hashlib.sha256(np.ascontiguousarray(self.pictures).data)
        total.update("\0".join(self.captions).encode(errors="surrogatepass"))
        return total.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.pictures)

    def on(self, device: torch.device) -> PictureSet:
        """The same set, of which `tensor` then gives images on ``device``."""
        return replace(self, resident=torch.from_numpy(self.pictures).to(device))

    def sample(self, count: int, draw: random.Random) -> tuple[Tensor, list[str]]:
        """``count`` images, fp32 [count, C, H, W] in −1…1, and prompts."""
        rows = self.rows(count, draw)
        return self.tensor(rows), [self.prompters[row](draw) for row in rows]

    def rows(self, count: int, draw: random.Random) -> list[int]:
        """Which ``count`` images come next."""
        weights = [len(group) ** CROWD for group in self.groups]
        return [draw.choice(group) for group in draw.choices(self.groups, weights, k=count)]

    def tensor(self, rows: Sequence[int]) -> Tensor:
        """The images at ``rows``, fp32 [len(rows), C, H, W] in −1…1."""
        if self.resident is None:
            chosen = torch.from_numpy(self.pictures[list(rows)])
        else:
            chosen = self.resident[torch.tensor(rows, device=self.resident.device)]
        return chosen.float() / 127.5 - 1
