"""Uploads made ready for a model, and what the model's picture becomes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from app.generation.editing.fit import (
    Canvas,
    Fit,
    Size,
    Target,
    framed,
    mean,
    on_canvas,
    reduced,
    resampled,
    scaled,
)
from app.generation.editing.retouch import (
    LONGEST_PREVIEW,
    Retouch,
    SmallRetouch,
    fit_mask,
    is_opaque,
)
from model.image_files.decode import ImageFileError, decode
from model.request import FACTORS, Picture, Source

NEAR = 24
"""How far a colour may be from the background's: the sum over red, green and blue, 0…765."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where a row starts, and how its picture becomes the answer."""

    source: Source
    fit: Fit
    drawn: Size  # by the model
    size: Size  # of the answer, where no other is asked for
    opaque: bool  # whether nothing of what was uploaded, and is kept, can be seen through
    frame: Callable[[Image.Image], Image.Image]
    shape: Size  # whose aspect the answer has
    preview: Callable[[Image.Image], Image.Image] | None = None  # of a large one; None: as frame

    def scaled(self, longer: int | None) -> Size:
        """The size of the answer whose longer side has so many pixels; None is its own."""
        if longer is None or longer == max(self.size):
            return self.size
        return scaled(self.shape, longer)


def whole(files: Sequence[bytes], target: Target, most_pixels: int) -> Prepared:
    """The whole picture; of several the mean, in the frame of the first.

    Raises `ImageFileError`.
    """
    images = _decoded(files, most_pixels)
    first = next(images)
    canvas = target.canvas(first)
    place = canvas.fit(first)
    pictures = [framed(first, place, canvas.channels)]
    pictures += [framed(image, canvas.fit(image), canvas.channels) for image in images]
    source = Source(mean(pictures))
    opaque = is_opaque(first)
    return Prepared(source, place, canvas.size, place.inner, opaque, place.cut, first.size)


def referred(files: Sequence[bytes], target: Target, most_pixels: int) -> Prepared:
    """All pictures, each as it is, for a model that reads of them in the prompt.

    None is fitted to a canvas, as each pipeline scales them in its own way; but they are scaled
    down to the pixels of the largest image that the model draws. What is drawn has the size that
    was asked for, or the aspect of the first. Raises `ImageFileError`.
    """
    images = _decoded(files, most_pixels)
    first = next(images)
    drawn, most = target.canvas(first).size, target.sizes.most
    place = reduced(first, most)
    source = Source(
        framed(first, place, target.channels),
        others=tuple(framed(one, reduced(one, most), target.channels) for one in images),
    )
    return Prepared(source, place, drawn, drawn, is_opaque(first), place.cut, drawn)


def shown(file: bytes, canvas: Canvas, most_pixels: int) -> Prepared:
    """The whole picture, to be looked at. Raises `ImageFileError`.

    What a model of pictures with transparency learned stands on nothing: where an upload has a flat
    background, that is taken away.
    """
    image = decode(file, most_pixels)
    place = canvas.fit(image)
    small = resampled(image, place)
    if canvas.channels == 4:
        small = cut_out(small)
    source = Source(on_canvas(small, place, canvas.channels))
    opaque = is_opaque(image)
    return Prepared(source, place, canvas.size, place.inner, opaque, place.cut, image.size)


def enlarged(file: bytes, target: Target, most_pixels: int, *, factor: int) -> Prepared:
    """The picture as it is, to become ``factor`` times as large. Raises `ImageFileError`.

    What is drawn is as large as the model's images, or larger where the result is.
    """
    image = decode(file, most_pixels)
    drawn = target.sizes.upscaled_from(*image.size, factor)
    if drawn is None:
        width, height = (max(side, target.sizes.upscaled) for side in target.sizes.native)
        takes = " and ".join(f"{width // by} x {height // by} by {by}" for by in FACTORS)
        message = (
            f"has {image.width} x {image.height} pixels; at most {takes} can be upscaled: "
            f"a result has at most {width} x {height}"
        )
        raise ImageFileError(message, "image_too_large")
    place = Fit(image.size, image.size, (drawn[0] // factor, drawn[1] // factor))
    source = Source(framed(image, place, target.channels))
    size = factor * image.width, factor * image.height
    opaque = is_opaque(image)
    return Prepared(source, place, drawn, size, opaque, place.cut, image.size)


def retouched(retouch: Retouch, others: Sequence[bytes], target: Target) -> Prepared:
    """The picture with a part to be regenerated. Raises `ImageFileError`, and as `Retouch.open`.

    That part starts, as far as the request's strength leaves something of it, from the mean of the
    picture and the others.
    """
    try:
        image, mask = retouch.open()
    except ImageFileError as error:
        if not others or error.field != "image":
            raise
        raise _numbered(error, 1, 1 + len(others)) from error
    canvas = target.canvas(image)
    place = canvas.fit(image)
    picture = framed(image, place, canvas.channels)
    regenerated = fit_mask(mask, place)
    if others:
        seen = _decoded((retouch.image, *others), retouch.most_pixels)
        start = mean([framed(one, canvas.fit(one), canvas.channels) for one in seen])
        picture = _put(picture, start, regenerated)
    source = Source(picture, mask=regenerated)
    opaque = is_opaque(image, ~mask)
    lay = partial(retouch.lay, fit=place)
    large = max(image.size) > LONGEST_PREVIEW
    preview = SmallRetouch.of(image, mask, place).lay if large else None
    return Prepared(source, place, canvas.size, image.size, opaque, lay, image.size, preview)


def _decoded(files: Sequence[bytes], most_pixels: int) -> Iterator[Image.Image]:
    """One after the other, so that only one of them takes its memory. Raises `ImageFileError`."""
    for number, file in enumerate(files, 1):
        try:
            yield decode(file, most_pixels)
        except ImageFileError as error:
            if len(files) == 1:
                raise
            raise _numbered(error, number, len(files)) from error


def _numbered(error: ImageFileError, number: int, count: int) -> ImageFileError:
    return ImageFileError(f"{number} of {count} {error}", error.code)


def _put(below: Picture, above: Picture, mask: bytes) -> Picture:
    """``above`` where the mask is not 0."""
    shape = (below.height, below.width, below.channels)
    old, new = (np.frombuffer(one.pixels, np.uint8).reshape(shape) for one in (below, above))
    shown = np.frombuffer(mask, np.uint8).reshape(*shape[:2], 1) != 0
    return Picture(below.width, below.height, below.channels, np.where(shown, new, old).tobytes())


def cut_out(image: Image.Image) -> Image.Image:
    """An RGBA picture without what its border shows, where that is one flat colour.

    Background is what is joined to a corner and near in colour to it. A picture that has
    transparent pixels already, or corners of several colours, or nothing but background, is as it
    was.
    """
    right, bottom = image.width - 1, image.height - 1
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    colours = [_colour(image, corner) for corner in corners]
    if not is_opaque(image) or any(_distance(colours[0], one) > NEAR for one in colours):
        return image
    result = image.copy()
    for corner in corners:
        if _colour(result, corner)[3]:
            ImageDraw.floodfill(result, corner, (0, 0, 0, 0), thresh=NEAR)
    return result if result.getchannel("A").getbbox() else image


def _colour(image: Image.Image, place: tuple[int, int]) -> tuple[int, ...]:
    colour = image.getpixel(place)
    assert isinstance(colour, tuple)
    return colour


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
