"""Between an upload of any size and the canvas that a model takes.

The upload keeps its aspect: it lies in the middle of the canvas, scaled until it touches two
opposite edges, with nothing (white, for a model of opaque images) around it. The answer shows the
same frame. A model that draws many sizes has a canvas of the upload's own aspect, as nearly as
there is one, and nothing lies around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, sqrt

import numpy as np
from PIL import Image

from model.image_files.decode import ImageFileError
from model.request import InvalidField, Picture
from model.sizes import Sizes

Size = tuple[int, int]
"""Width and height in pixels."""


STRETCH = 1 / 32
"""The part of a flexible canvas that may be missing beside an upload: rather than lie in slivers of
nothing, which a model takes for a frame, the upload is stretched over it."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a model takes: images of so many pixels, with 3 or 4 channels."""

    width: int
    height: int
    channels: int
    flexible: bool = False  # whether it is one of many, chosen for the upload

    @property
    def size(self) -> Size:
        return self.width, self.height

    def fit(self, image: Image.Image) -> Fit:
        """Where an upload lies on it."""
        place = fit(image, self.size)
        missing = max(
            1 - inner / outer for inner, outer in zip(place.inner, self.size, strict=True)
        )
        return replace(place, inner=self.size) if self.flexible and missing <= STRETCH else place


@dataclass(frozen=True, slots=True)
class Target:
    """What a model draws."""

    sizes: Sizes
    channels: int
    asked: Size | None = None  # one that is drawn, whatever was uploaded

    @property
    def native(self) -> Canvas:
        """The canvas of the native size."""
        return Canvas(*self.sizes.native, self.channels)

    def canvas(self, image: Image.Image) -> Canvas:
        """The canvas for an upload: of the size that was asked for, or nearest to the upload's.

        Raises `ImageFileError` for an aspect that the model does not draw.
        """
        try:
            size = self.asked or self.sizes.nearest(*image.size)
        except InvalidField as error:
            raise ImageFileError(str(error), "image_aspect") from error
        return Canvas(*size, self.channels, flexible=self.sizes.several)


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
        """The frame out of the model's image, which may be larger than the canvas, or smaller as
        some previews are."""
        if self.inner == self.canvas:
            return image
        left, top, right, bottom = self.box
        across, down = image.width / self.canvas[0], image.height / self.canvas[1]
        start = floor(left * across), floor(top * down)
        return image.crop((*start, ceil(right * across), ceil(bottom * down)))


def fit(image: Image.Image, canvas: Size) -> Fit:
    """Scales the upload until it fills the canvas in one direction."""
    (width, height), (across, down) = image.size, canvas
    if across * height <= down * width:
        inner = across, max(1, round(height * across / width))
    else:
        inner = max(1, round(width * down / height)), down
    return Fit(image.size, inner, canvas)


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


def reduced(image: Image.Image, most_pixels: int) -> Fit:
    """The whole upload, in its own size or with at most so many pixels."""
    share = most_pixels / (image.width * image.height)
    if share >= 1:
        return Fit(image.size, image.size, image.size)
    width, height = (max(1, floor(side * sqrt(share))) for side in image.size)
    return Fit(image.size, (width, height), (width, height))


def scaled(size: Size, longer: int) -> Size:
    """The same aspect with ``longer`` pixels on the longer side, as nearly as pixels allow; no side
    vanishes."""
    width, height = (max(1, round(length * longer / max(size))) for length in size)
    return width, height
