"""An upload of which a part is regenerated, and all the rest stays as it was, to the last bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.generation.editing.fit import Fit, Size, scaled
from model.image_files.decode import ImageFileError, check_size, decode
from model.request import InvalidField


@dataclass(frozen=True, slots=True)
class Margins:
    """What is added around an upload, in per cent of its width or height."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0
    named: str = field(
        default="left", kw_only=True
    )  # the field that is at fault where they add nothing


@dataclass(frozen=True, slots=True)
class Retouch:
    """The files of an edit, which are decoded whenever their pixels are needed.

    An edit may wait for minutes, and its pixels take up to a hundred times the memory of its
    files. With ``margins`` these are what is regenerated; else what ``mask`` marks, and without a
    mask what is fully transparent in the image.
    """

    image: bytes
    mask: bytes | None
    style: MaskStyle
    margins: Margins | None
    most_pixels: int

    def open(self) -> tuple[Image.Image, Mask]:
        """The RGBA picture with its margins, and what is regenerated.

        Raises `ImageFileError`, and `InvalidField` for margins that add nothing.
        """
        image = decode(self.image, self.most_pixels)
        if self.margins is not None:
            return _extended(image, self.margins, self.most_pixels)
        if self.mask is None:
            mask = np.asarray(image.getchannel("A")) == 0
            if not mask.any():
                raise ImageFileError(
                    "has no transparent pixels, and no mask came with it", "no_mask"
                )
            return image, mask
        return image, self._read_mask(self.mask, image)

    def lay(self, made: Image.Image, fit: Fit) -> Image.Image:
        """The upload with the frame of the model's picture where it is regenerated."""
        return laid(fit.cut(made), *self.open())

    def _read_mask(self, file: bytes, image: Image.Image) -> Mask:
        try:
            picture = decode(file, self.most_pixels)
        except ImageFileError as error:
            raise ImageFileError(str(error), error.code, "mask") from error
        if picture.size != image.size:
            sizes = [f"{one.width} x {one.height}" for one in (picture, image)]
            message = f"has {sizes[0]} pixels, the image has {sizes[1]}"
            raise ImageFileError(message, "wrong_size", "mask")
        mask = marked(picture, self.style)
        if not mask.any():
            what = "transparent" if self.style == "alpha" else "transparent or white"
            raise ImageFileError(f"marks nothing: no pixel of it is {what}", "no_mask", "mask")
        return mask


def _extended(image: Image.Image, margins: Margins, most_pixels: int) -> tuple[Image.Image, Mask]:
    """The picture on a clear canvas.

    Raises `ImageFileError` for one of too many pixels, and `InvalidField` for margins of none.
    """
    left, right = (image.width * part // 100 for part in (margins.left, margins.right))
    top, bottom = (image.height * part // 100 for part in (margins.top, margins.bottom))
    width, height = image.width + left + right, image.height + top + bottom
    try:
        check_size(width, height, most_pixels)
    except ImageFileError as error:
        would = str(error).replace("has", "would have", 1)
        message = f"{would}; this is with its margins, which could be smaller, as could the picture"
        raise ImageFileError(message, error.code) from error
    mask = np.ones((height, width), np.bool_)
    mask[top : top + image.height, left : left + image.width] = False
    if not mask.any():
        message = f"no margin adds a pixel to a picture of {image.width} x {image.height} pixels"
        raise InvalidField(margins.named, message, code="no_margin")
    canvas = Image.new("RGBA", (width, height))
    canvas.paste(image, (left, top))
    return canvas, mask


Mask = NDArray[np.bool_]
"""[height, width], True where a pixel is regenerated."""

MaskStyle = Literal["any", "alpha"]
"""How a mask marks: "alpha" by full transparency alone, as OpenAI has it; "any" also by white."""

HALF = 128
"""From which brightness on a mask marks, and below which alpha: soft edges count half-way."""

NEAR_WHITE = 240
"""From which value on, in each channel, strokes on a clear canvas are white ones."""

EMPTY, SHEET = 1 / 2, 1 / 4
"""Parts of a border: with more of it transparent a canvas was empty, with less a sheet was full."""


def marked(mask: Image.Image, style: MaskStyle) -> Mask:
    """What an RGBA picture marks: its transparent pixels, or if none is, its bright ones.

    Where the style is "any", and all that can be seen is white, its border decides: strokes on an
    empty canvas mark what they cover, and holes in a white sheet are what they are in any picture.
    Raises `ImageFileError` for what may mean either.
    """
    clear = np.asarray(mask.getchannel("A")) < HALF
    if style == "alpha":
        return clear
    if not clear.any():
        return np.asarray(mask.convert("RGB").convert("L")) >= HALF
    colours = np.asarray(mask)[..., :3]
    white = ~clear & (colours.min(2) >= NEAR_WHITE)
    black = ~clear & (colours.max(2) <= 255 - NEAR_WHITE)
    if not white.any() or not (clear | white | black).all():
        return clear
    around = np.concatenate([clear[0], clear[-1], clear[:, 0], clear[:, -1]]).mean()
    if not black.any() and around > EMPTY:
        return white
    if not black.any() and around < SHEET:
        return clear
    what = "transparent, black and white" if black.any() else "white and transparent"
    message = (
        f"is {what}, which may mean either: what is regenerated should be transparent, and nothing "
        "else white, or white, and nothing transparent"
    )
    raise ImageFileError(message, "ambiguous_mask", "mask")


def laid(new: Image.Image, image: Image.Image, mask: Mask) -> Image.Image:
    """An RGBA picture with a new one where it is regenerated, which is scaled to its size.

    Where all that is kept is opaque, so is the whole: what the new picture lets through shows the
    colours that lie around. ``image`` is changed.
    """
    new = new.convert("RGBA")
    if new.size != image.size:
        new = new.resize(image.size, Image.Resampling.LANCZOS)
    if is_opaque(image, ~mask) and not is_opaque(new, mask):
        new = Image.alpha_composite(_ground(image, mask), new)
    image.paste(new, mask=Image.fromarray(mask))
    return image


LONGEST_GROUND = 512
"""Pixels: it is blurred, and needs no more."""


def _ground(image: Image.Image, mask: Mask) -> Image.Image:
    """What is kept of a picture, continued to where nothing is: opaque, ever softer away from it.

    Halved until no pixel is empty, and put together from the coarsest on (pull-push, Gortler et
    al., The Lumigraph, 1996). White where nothing is kept.
    """
    kept = image.copy()
    kept.putalpha(Image.fromarray(~mask).convert("L"))
    levels = [_known(kept.reduce(max(1, -(-max(image.size) // LONGEST_GROUND))))]
    while max(levels[-1].size) > 1:
        levels.append(_known(levels[-1].reduce(2)))
    ground = Image.new("RGBA", (1, 1), "white")
    for level in reversed(levels):
        ground = ground.resize(level.size, Image.Resampling.BILINEAR)
        ground = Image.alpha_composite(ground, level)
    return ground.resize(image.size, Image.Resampling.BILINEAR)


def _known(image: Image.Image) -> Image.Image:
    """Opaque wherever anything is."""
    image.putalpha(image.getchannel("A").point([0] + 255 * [255]))
    return image


LONGEST_PREVIEW = 512
"""Pixels along the longer side. Previews of large pictures would take seconds each."""


@dataclass(frozen=True, slots=True)
class SmallRetouch:
    """What previews of a large picture are laid on. Takes about a megabyte."""

    image: Image.Image
    mask: Mask
    fit: Fit

    @classmethod
    def of(cls, image: Image.Image, mask: Mask, fit: Fit) -> SmallRetouch:
        size: Size = scaled(image.size, LONGEST_PREVIEW)
        marks = Image.fromarray(mask).convert("L").resize(size, Image.Resampling.BOX)
        small = image.resize(size, Image.Resampling.BOX)
        return cls(small, np.asarray(marks) >= HALF, fit)

    def lay(self, made: Image.Image) -> Image.Image:
        """As `Retouch.lay`."""
        return laid(self.fit.cut(made), self.image.copy(), self.mask)


def is_opaque(image: Image.Image, where: Mask | None = None) -> bool:
    """Whether nothing of an RGBA picture can be seen through, there where it matters."""
    alpha = np.asarray(image.getchannel("A"))
    seen = alpha if where is None or not where.any() else alpha[where]
    return bool(seen.min() == 255)


def fit_mask(mask: Mask, fit: Fit) -> bytes:
    """The mask on the model's canvas, uint8, 255 is regenerated; what lies around is kept.

    A pixel of the canvas is regenerated if any pixel of the upload that it covers is. Where the
    upload was resampled, so are its eight neighbours: resampling has spread the old content there.
    """
    width, height = fit.inner
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    inner = np.logical_or.reduceat(np.logical_or.reduceat(mask, rows, axis=0), columns, axis=1)
    if fit.resampled:
        inner = np.asarray(Image.fromarray(inner).convert("L").filter(ImageFilter.MaxFilter(3))) > 0
    canvas = np.zeros((fit.canvas[1], fit.canvas[0]), np.uint8)
    left, top, right, bottom = fit.box
    canvas[top:bottom, left:right] = inner * np.uint8(255)
    return canvas.tobytes()
