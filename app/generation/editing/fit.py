"""Between an upload of any size and the canvas that a model takes.

The upload keeps its aspect: it lies in the middle of the canvas, scaled until it touches two
opposite edges, with nothing (white, for a model of opaque images) around it. The answer shows the
same frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from model.request import Picture

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a model takes: images of so many pixels, with 3 or 4 channels."""

    width: int
    height: int
    channels: int

    @property
    def size(self) -> Size:
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Fit:
    """Where an upload lies on the model's canvas."""

    upload: Size
    inner: Size  # its own size there
    canvas: Size

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom on the canvas, in its pixels."""
        left, top = (
            (outer - inner) // 2 for outer, inner in zip(self.canvas, self.inner, strict=True)
        )
        return left, top, left + self.inner[0], top + self.inner[1]

    @property
    def resampled(self) -> bool:
        """Whether the model sees other pixels than those that were uploaded."""
        return self.inner != self.upload

    def __str__(self) -> str:
        (width, height), (inner_width, inner_height) = self.upload, self.inner
        return f"{width}x{height} -> {inner_width}x{inner_height}"

    def cut(self, image: Image.Image) -> Image.Image:
        """The frame out of the model's image, which may be larger than the canvas."""
        if self.inner == self.canvas:
            return image
        factor = image.width // self.canvas[0]
        left, top, right, bottom = (edge * factor for edge in self.box)
        return image.crop((left, top, right, bottom))


def fit(image: Image.Image, canvas: Size) -> Fit:
    """Scales the upload until it fills the canvas in one direction."""
    (width, height), (across, down) = image.size, canvas
    if across * height <= down * width:
        inner = across, max(1, round(height * across / width))
    else:
        inner = max(1, round(width * down / height)), down
    return Fit(image.size, inner, canvas)


def fit_exactly(image: Image.Image, canvas: Size) -> Fit | None:
    """Scales nothing; None where the upload does not fit."""
    fits = image.width <= canvas[0] and image.height <= canvas[1]
    return Fit(image.size, image.size, canvas) if fits else None


def resampled(image: Image.Image, fit: Fit) -> Image.Image:
    """The upload as large as it lies on the canvas."""
    return image.resize(fit.inner, Image.Resampling.LANCZOS) if fit.resampled else image


def framed(image: Image.Image, fit: Fit, channels: int) -> Picture:
    """The canvas with the upload on it, as a model of so many channels takes it."""
    return on_canvas(resampled(image, fit), fit, channels)


def on_canvas(image: Image.Image, fit: Fit, channels: int) -> Picture:
    """`framed`, of an upload that was `resampled`."""
    if fit.inner != fit.canvas:
        canvas = Image.new("RGBA", fit.canvas)
        canvas.paste(image, fit.box)
        image = canvas
    if channels == 3:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    return Picture(*fit.canvas, channels, image.tobytes())


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
    """The same aspect with ``longer`` pixels on the longer side, as nearly as pixels allow; no side
    vanishes."""
    width, height = (max(1, round(length * longer / max(size))) for length in size)
    return width, height
