"""Between an upload of any size and the square that a model takes.

The upload keeps its aspect: it lies in the middle of the square, scaled until its longer side fills
it, with nothing (white, for a model of opaque pictures) around. The answer shows the same frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from model.protocol import Picture

Size = tuple[int, int]
"""Width and height."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Where an upload lies in the model's square."""

    upload: Size
    inner: Size  # its own size in there
    side: int  # of the square

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in the square, in its pixels."""
        left, top = ((self.side - length) // 2 for length in self.inner)
        return left, top, left + self.inner[0], top + self.inner[1]

    @property
    def resampled(self) -> bool:
        """Whether the model saw other pixels than those that were uploaded."""
        return self.inner != self.upload

    def cut(self, image: Image.Image) -> Image.Image:
        """The frame out of the model's picture, which may be larger than the square."""
        if self.inner == (self.side, self.side):
            return image
        times = image.width // self.side
        left, top, right, bottom = (edge * times for edge in self.box)
        return image.crop((left, top, right, bottom))


def fit(image: Image.Image, side: int) -> Fit:
    """Scales the longer side to the square's."""
    return Fit(image.size, scaled(image.size, side), side)


def fit_exactly(image: Image.Image, side: int) -> Fit | None:
    """Scales nothing; None where the upload does not fit."""
    return Fit(image.size, image.size, side) if max(image.size) <= side else None


def resampled(image: Image.Image, fit: Fit) -> Image.Image:
    """The upload as large as it lies in the square."""
    return image.resize(fit.inner, Image.Resampling.LANCZOS) if fit.resampled else image


def framed(image: Image.Image, fit: Fit, channels: int) -> Picture:
    """The square with the upload in it, as a model of so many channels takes it."""
    return in_square(resampled(image, fit), fit, channels)


def in_square(image: Image.Image, fit: Fit, channels: int) -> Picture:
    """`framed`, of an upload that was `resampled`."""
    if fit.inner != (fit.side, fit.side):
        square = Image.new("RGBA", (fit.side, fit.side))
        square.paste(image, fit.box)
        image = square
    if channels == 3:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    return Picture(fit.side, fit.side, channels, image.tobytes())


def mean(pictures: Sequence[Picture]) -> Picture:
    """Of pictures of one shape; where they are transparent, their colours count less."""
    first = pictures[0]
    if len(pictures) == 1:
        return first
    shape = (len(pictures), first.height, first.width, first.channels)
    values = np.frombuffer(b"".join(one.pixels for one in pictures), np.uint8).reshape(shape)
    weights = values[..., 3:] / 255 if first.channels == 4 else np.ones((*shape[:3], 1))
    colours = (values[..., :3] * weights).sum(0) / np.maximum(weights.sum(0), 1e-9)
    mixed = np.concatenate((colours, 255 * weights.mean(0)), axis=2)[..., : first.channels]
    return replace(first, pixels=mixed.round().astype(np.uint8).tobytes())


def scaled(size: Size, longer: int) -> Size:
    """The same aspect, as nearly as pixels allow; no side vanishes."""
    width, height = (max(1, round(length * longer / max(size))) for length in size)
    return width, height
