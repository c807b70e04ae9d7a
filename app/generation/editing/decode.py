"""Files to pixels: PNG, JPEG, WebP and the first frame of a GIF, whatever is in them.

Promises an RGBA picture, upright, or an `UploadError` in words, and that no file costs more time or
memory than its size and its pixels allow. Colour profiles are not applied: numbers are taken as
sRGB.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from model.request import InvalidField

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""What is read, by Pillow's names. Others stay closed: each is a decoder to attack."""

LONGEST_SIDE = 16_383
"""Pixels: what WebP can hold. An edit has the size of its upload, in any format."""

MOST_SCANS = 100
"""Scans of a JPEG. Encoders write about ten; each takes the time of a pass over all pixels, even
one of 30 bytes, so that a megabyte of them would take minutes."""

Problem = Literal["empty_image", "unsupported_image", "broken_image", "image_too_large"]

# What Pillow has to say of a file is said to its sender, if anything; and what it holds to be a
# bomb it refuses at once.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


class UploadError(InvalidField):
    """Why an upload cannot be used. ``str()`` is a sentence whose subject is the field."""

    def __init__(self, message: str, code: str, field: str = "image") -> None:
        super().__init__(field, message, code=code)


def decode(file: bytes, most_pixels: int) -> Image.Image:
    """The picture as RGBA, turned as its Exif orientation says. Raises `UploadError`.

    Takes about 12 bytes of memory for each pixel meanwhile. The number of pixels is read from the
    head of the file and checked before any is decoded.
    """
    if not file:
        raise _error("empty_image", "is empty")
    try:
        with Image.open(BytesIO(file), formats=FORMATS) as image:
            _check(image, file, most_pixels)
            image.load()
            return _upright(image)
    except UploadError:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(file) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("has far too many pixels", most_pixels) from error
    except Exception as error:  # a mangled file makes Pillow raise anything
        raise _error("broken_image", f"cannot be decoded: {_reason(error)}") from error


def check_size(width: int, height: int, most_pixels: int) -> None:
    """Raises `UploadError` for a picture too large to be decoded, or written again."""
    if width * height > most_pixels:
        raise _too_large(f"has {width} x {height} pixels", most_pixels)
    if max(width, height) > LONGEST_SIDE:
        message = f"has {width} x {height} pixels; a side has at most {LONGEST_SIDE}"
        raise _error("image_too_large", message)


def _check(image: Image.Image, file: bytes, most_pixels: int) -> None:
    width, height = image.size
    check_size(width, height, most_pixels)
    if image.format in ("JPEG", "MPO") and file.count(b"\xff\xda") > MOST_SCANS:
        raise _error("image_too_large", f"has more than {MOST_SCANS} scans")


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode in ("CMYK", "YCbCr"):
        image = image.convert("RGB")
    return image.convert("RGBA")  # sees to palettes and to the one transparent colour of a PNG


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits: Pillow would cut it off at 255. Keeps the high bytes, as Pillow in RGB."""
    values = np.asarray(image).astype(np.uint16)
    grey = (values >> 8).astype(np.uint8)
    alpha = np.full_like(grey, 255)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        alpha[values == clear] = 0
    return Image.fromarray(np.dstack((grey, grey, grey, alpha)))


def _upright(image: Image.Image) -> Image.Image:
    """As RGBA, turned as its Exif orientation says; mangled Exif says nothing."""
    turned = _to_rgba(image)
    try:
        turned.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
        return ImageOps.exif_transpose(turned)
    except Exception:  # noqa: BLE001 - whatever is wrong with the Exif, the pixels are what counts
        return turned


_ORIENTATION = 0x0112


def _unidentified(file: bytes) -> UploadError:
    """Says what the file is instead, as far as its first bytes tell."""
    head = file[:1024]
    if any(head.startswith(magic) for magic in _MAGIC) or head[8:12] == b"WEBP":
        return _error("broken_image", "cannot be decoded: it is damaged or cut short")
    if b"<svg" in head.lower():
        kind = "an SVG drawing"
    elif head[4:8] == b"ftyp":
        kind = "a video, or a HEIF or AVIF picture"
    elif head.isascii():
        kind = "text, not a picture"
    else:
        kind = "of a kind that is not known here"
    return _error("unsupported_image", f"is {kind}; PNG, JPEG, WebP and GIF are read")


_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0].strip()
    return text[:100] if text.isprintable() and text else type(error).__name__


def _too_large(what: str, most_pixels: int) -> UploadError:
    return _error("image_too_large", f"{what}; at most {most_pixels} are accepted")


def _error(code: Problem, message: str) -> UploadError:
    return UploadError(message, code)
