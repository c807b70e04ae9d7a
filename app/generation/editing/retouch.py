"""An upload of which a part is regenerated, and all the rest stays as it was, to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.generation.editing.decode import UploadError, check_size, decode
from app.generation.editing.fit import Fit


@dataclass(frozen=True, slots=True)
class Margins:
    """What is added around an upload, in per cent of its width or height."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


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
        """The RGBA picture with its margins, and what is regenerated. Raises `UploadError`."""
        image = decode(self.image, self.most_pixels)
        if self.margins is not None:
            return _extended(image, self.margins, self.most_pixels)
        if self.mask is None:
            mask = np.asarray(image.getchannel("A")) == 0
            if not mask.any():
                raise UploadError("has no transparent pixels, and no mask came with it", "no_mask")
            return image, mask
        return image, self._read_mask(self.mask, image)

    def lay(self, made: Image.Image, fit: Fit) -> Image.Image:
        """The upload with the frame of the model's picture where it is regenerated."""
        image, mask = self.open()
        new = fit.cut(made).convert("RGBA")
        if new.size != image.size:
            new = new.resize(image.size, Image.Resampling.LANCZOS)
        image.paste(new, mask=Image.fromarray(mask))
        return image

    def _read_mask(self, file: bytes, image: Image.Image) -> Mask:
        try:
            picture = decode(file, self.most_pixels)
        except UploadError as error:
            raise UploadError(str(error), error.code, "mask") from error
        if picture.size != image.size:
            sizes = [f"{one.width} x {one.height}" for one in (picture, image)]
            message = f"has {sizes[0]} pixels, the image has {sizes[1]}"
            raise UploadError(message, "wrong_size", "mask")
        mask = marked(picture, self.style)
        if not mask.any():
            what = "fully transparent" if self.style == "alpha" else "fully transparent or white"
            raise UploadError(f"marks nothing: no pixel of it is {what}", "no_mask", "mask")
        return mask


def _extended(image: Image.Image, margins: Margins, most_pixels: int) -> tuple[Image.Image, Mask]:
    """The picture on a clear canvas. Raises `UploadError` for one of too many pixels."""
    left, right = (image.width * part // 100 for part in (margins.left, margins.right))
    top, bottom = (image.height * part // 100 for part in (margins.top, margins.bottom))
    width, height = image.width + left + right, image.height + top + bottom
    check_size(width, height, most_pixels)
    mask = np.ones((height, width), np.bool_)
    mask[top : top + image.height, left : left + image.width] = False
    if not mask.any():
        raise UploadError("has no margins of a pixel or more", "no_mask")
    canvas = Image.new("RGBA", (width, height))
    canvas.paste(image, (left, top))
    return canvas, mask


Mask = NDArray[np.bool_]
"""[height, width], True where a pixel is regenerated."""

MaskStyle = Literal["any", "alpha"]
"""How a mask marks: "alpha" by full transparency alone, as OpenAI has it; "any" also by white."""

BRIGHT = 128


def marked(mask: Image.Image, style: MaskStyle) -> Mask:
    """What an RGBA picture marks: its fully transparent pixels, else its bright ones.

    Brightness counts only where the style is "any" and no pixel is fully transparent.
    """
    clear = np.asarray(mask.getchannel("A")) == 0
    if style == "alpha" or clear.any():
        return clear
    return np.asarray(mask.convert("RGB").convert("L")) >= BRIGHT


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
