"""Uploads made ready for a model, and what the model's picture becomes with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from app.uploads.background import cut_out
from app.uploads.decoding import UploadError, decode
from app.uploads.fitting import (
    Fit,
    Size,
    fit,
    fit_exactly,
    framed,
    in_square,
    mean,
    resampled,
    scaled,
)
from app.uploads.masks import fitted, is_opaque
from app.uploads.retouch import Retouch
from model.protocol import Picture, Source

FACTORS = (2, 4)
"""How many times a picture can be upscaled."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a model takes: squares of so many pixels a side, of 3 or 4 channels."""

    side: int
    channels: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where a row starts, and how its picture becomes the answer."""

    source: Source
    fit: Fit
    size: Size  # of the answer, where no other is asked for
    opaque: bool  # whether nothing of what was uploaded, and is kept, can be seen through
    frame: Callable[[Image.Image], Image.Image]

    def scaled(self, longer: int | None) -> Size:
        """The size of the answer whose longer side has so many pixels; None is its own."""
        if longer is None or longer == max(self.size):
            return self.size
        return scaled(self.fit.upload, longer)


def whole(
    files: Sequence[bytes],
    canvas: Canvas,
    most_pixels: int,
    *,
    strength: float = 1.0,
    noise: float | None = None,
) -> Prepared:
    """The whole picture; of several the mean, in the frame of the first. Raises `UploadError`."""
    images = [decode(file, most_pixels) for file in files]
    fits = [fit(image, canvas.side) for image in images]
    pictures = [
        framed(image, place, canvas.channels) for image, place in zip(images, fits, strict=True)
    ]
    source = Source(mean(pictures), strength=strength, noise=noise)
    first = fits[0]
    return Prepared(source, first, first.inner, is_opaque(images[0]), first.cut)


def shown(file: bytes, canvas: Canvas, most_pixels: int) -> Prepared:
    """The whole picture, to be looked at. Raises `UploadError`.

    What a model of pictures with transparency learned stands on nothing: where an upload has a flat
    background, that is taken away.
    """
    image = decode(file, most_pixels)
    place = fit(image, canvas.side)
    small = resampled(image, place)
    if canvas.channels == 4:
        small = cut_out(small)
    source = Source(in_square(small, place, canvas.channels))
    return Prepared(source, place, place.inner, is_opaque(image), place.cut)


def enlarged(file: bytes, canvas: Canvas, most_pixels: int, *, factor: int) -> Prepared:
    """The picture as it is, to become ``factor`` times as large. Raises `UploadError`."""
    image = decode(file, most_pixels)
    place = fit_exactly(image, canvas.side // factor)
    if place is None:
        takes = " and ".join(
            f"{canvas.side // each} x {canvas.side // each} by {each}" for each in FACTORS
        )
        message = f"has {image.width} x {image.height} pixels; at most {takes} can be upscaled"
        raise UploadError(message, "image_too_large")
    source = Source(framed(image, place, canvas.channels))
    size = factor * image.width, factor * image.height
    return Prepared(source, place, size, is_opaque(image), place.cut)


def retouched(
    retouch: Retouch, others: Sequence[bytes], canvas: Canvas, *, strength: float
) -> Prepared:
    """The picture with a part to be made anew. Raises `UploadError`.

    That part starts, as far as ``strength`` leaves something of it, from the mean of the picture
    and the others.
    """
    image, mask = retouch.open()
    place = fit(image, canvas.side)
    picture = framed(image, place, canvas.channels)
    anew = fitted(mask, place)
    if others:
        start = whole((retouch.image, *others), canvas, retouch.most_pixels)
        picture = _put(picture, start.source.picture, anew)
    source = Source(picture, mask=anew, strength=strength)
    opaque = is_opaque(image, ~mask)
    return Prepared(source, place, image.size, opaque, partial(retouch.lay, fit=place))


def _put(below: Picture, above: Picture, mask: bytes) -> Picture:
    """``above`` where the mask is not 0."""
    shape = (below.height, below.width, below.channels)
    old, new = (np.frombuffer(one.pixels, np.uint8).reshape(shape) for one in (below, above))
    anew = np.frombuffer(mask, np.uint8).reshape(*shape[:2], 1) != 0
    return Picture(below.width, below.height, below.channels, np.where(anew, new, old).tobytes())
