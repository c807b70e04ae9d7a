"""Files to pixels: PNG, JPEG, WebP, AVIF and the first frame of a GIF, whatever is in them.

Of a PNG that moves its still image is taken, whether that is a frame or not.

Promises an RGBA picture, upright and in sRGB, or an `ImageFileError` in words, and that no file
costs more time or memory than its size and its pixels allow. HEIC is read where the package
pillow-heif is installed (the extra "heif").
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from typing import Literal

import numpy as np
from PIL import AvifImagePlugin, Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile

from model.image_files import gif, jpeg, png
from model.image_files.colour import MOST_PROFILE, profile_of, to_srgb
from model.request import InvalidField

try:
    from pillow_heif import register_heif_opener
except ImportError:
    _HEIF = False
else:
    register_heif_opener(thumbnails=False)
    _HEIF = True

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", *(("HEIF",) if _HEIF else ()))
"""What is read, by Pillow's names. Others stay closed: each is a decoder to attack."""

READ = "PNG, JPEG, WebP, GIF, AVIF and HEIC" if _HEIF else "PNG, JPEG, WebP, GIF and AVIF"
"""The same for people."""

OWN_FORMATS, OWN_READ = (*FORMATS, "BMP", "TIFF"), f"BMP, TIFF, {READ}"
"""What is read of the user's own files, for training."""

LONGEST_SIDE = 16_383
"""Pixels: what WebP can hold. An edit has the size of its upload, in any format."""

MOST_SCANS = 100
"""Scans of a JPEG. Encoders write about ten; each takes the time of a pass over all pixels, even
one of 30 bytes, so that a megabyte of them would take minutes."""

MOST_EXIF = 65_536
"""Bytes that are searched for an orientation: as many as a JPEG has room for."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What is decoded, and how."""

    pixels: int
    formats: tuple[str, ...] = FORMATS
    read: str = READ
    longest_side: int = LONGEST_SIDE
    side: int | None = None  # see `decode_own`


Problem = Literal["empty_image", "unsupported_image", "broken_image", "image_too_large"]

# What Pillow has to say of a file is said to its sender, if anything. How many pixels are too many
# is checked here; and a decoder has the thread in which it is called.
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class ImageFileError(InvalidField):
    """Why a file cannot be used. ``str()`` is a sentence; its subject is the field or the file."""

    def __init__(self, message: str, code: str, field: str = "image") -> None:
        super().__init__(field, message, code=code)


def decode(file: bytes, most_pixels: int) -> Image.Image:
    """An upload as RGBA in sRGB, turned as its Exif block says. Raises `ImageFileError`.

    Takes about 12 bytes of memory for each pixel meanwhile. The number of pixels is read from the
    head of the file and checked before any is decoded.
    """
    return _decoded(file, _Accepted(most_pixels))


def decode_own(file: bytes, most_pixels: int, side: int) -> Image.Image:
    """The same of one of the user's own files, which may be of more formats, and wider.

    A JPEG whose longer side has many more than ``side`` pixels is decoded at half, a quarter or an
    eighth of its size, but to no fewer than that. Raises `ImageFileError`.
    """
    return _decoded(file, _Accepted(most_pixels, OWN_FORMATS, OWN_READ, most_pixels, side))


def _decoded(file: bytes, accepted: _Accepted) -> Image.Image:
    if not file:
        raise _error("empty_image", "is empty")
    try:
        return _decode(file, accepted)
    except ImageFileError:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(file, accepted) from error
    except Exception as error:  # a mangled file makes Pillow raise anything
        raise _error("broken_image", _DAMAGED) from error


def check_size(width: int, height: int, most_pixels: int, longest_side: int = LONGEST_SIDE) -> None:
    """Raises `ImageFileError` for a picture too large to be decoded, or written again."""
    if width * height > most_pixels:
        raise _too_large(f"has {width} x {height} pixels", most_pixels)
    if max(width, height) > longest_side:
        message = f"has {width} x {height} pixels; a side has at most {longest_side}"
        raise _error("image_too_large", message)


def _decode(file: bytes, accepted: _Accepted) -> Image.Image:
    """Formats whose metadata may be of any length are read without it."""
    if file.startswith(png.MAGIC):
        found = png.read(file)
        with _opened(found.file, accepted) as image:
            profile = profile_of(found.facts, found.profile(MOST_PROFILE))
            pixels = to_srgb(_of_8_bits(image), profile)
            if (alpha := found.alpha(image)) is not None:
                pixels.putalpha(alpha)
        return _upright(pixels.convert("RGBA"), found.exif)
    if file.startswith(jpeg.MAGIC):
        stripped = jpeg.read(file)
        if stripped.scans > MOST_SCANS:
            raise _error("image_too_large", f"has more than {MOST_SCANS} scans")
        with _opened(stripped.file, accepted) as image:
            pixels = to_srgb(image, stripped.profile(MOST_PROFILE))
        return _upright(pixels.convert("RGBA"), stripped.exif)
    if file.startswith(gif.MAGIC):
        with _opened(gif.first_frame(file), accepted) as image:
            assert isinstance(image, GifImageFile)
            return _on_screen(image.convert("RGBA"), image.dispose_extent)
    with _opened(file, accepted) as image:
        profile, exif = image.info.get("icc_profile") or b"", image.info.get("exif") or b""
        pixels = to_srgb(_of_8_bits(image), profile if len(profile) <= MOST_PROFILE else b"")
    return _upright(pixels.convert("RGBA"), exif)


@contextmanager
def _opened(file: bytes, accepted: _Accepted) -> Iterator[Image.Image]:
    """With its pixels, and without what else Pillow found."""
    with Image.open(BytesIO(file), formats=accepted.formats) as image:
        check_size(*image.size, accepted.pixels, accepted.longest_side)
        if accepted.side is not None:
            width, height = image.size
            scale = accepted.side / max(width, height)
            image.draft(None, (ceil(width * scale), ceil(height * scale)))
        image.load()
        yield image


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits: Pillow would cut it off at 255. Keeps the high bytes, as Pillow in RGB.

    Raises `ImageFileError` for values whose range is not known.
    """
    if image.mode == "F":
        raise _error("unsupported_image", "has floating-point values, of unknown range")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise _error("unsupported_image", "has values beyond 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _on_screen(image: Image.Image, frame: tuple[int, int, int, int] | None) -> Image.Image:
    """A GIF whose first frame does not fill it shows nothing around that."""
    if frame in (None, (0, 0, *image.size)):
        return image
    screen = Image.new("RGBA", image.size)
    screen.paste(image.crop(frame), frame)
    return screen


def _upright(image: Image.Image, exif: bytes) -> Image.Image:
    """Turned as its Exif orientation says, and nothing else; mangled Exif says nothing."""
    image.info.clear()
    try:
        tags = Image.Exif()
        tags.load(exif[:MOST_EXIF])
        turn = _TURNS.get(tags.get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - whatever is wrong with the Exif, the pixels are what counts
        turn = None
    return image if turn is None else image.transpose(turn)


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _unidentified(file: bytes, accepted: _Accepted) -> ImageFileError:
    """Says what the file is instead, as far as its first bytes tell."""
    head = file[:1024]
    if head.startswith(_MAGIC) or head[8:12] == b"WEBP" or head[4:12] in _READ_BRANDS:
        return _error("broken_image", _DAMAGED)
    if "TIFF" in accepted.formats and head.startswith(_TIFF):
        return _error("broken_image", _DAMAGED)
    kind = next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), None)
    if kind is None:
        kind = _guess(head)
    return _error("unsupported_image", f"is {kind}; {accepted.read} are read")


def _guess(head: bytes) -> str:
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "a BMP picture"
    if head[4:12] in _HEIC:
        return "a HEIC picture, for which a decoder is missing here"
    if head[4:8] == b"ftyp":
        return "a video"
    if b"<svg" in head.lower():
        return "an SVG drawing"
    if head.startswith(_BASE64):
        return "base64 text, not the file that it stands for"
    return "text, not a picture" if _is_text(head) else "of a kind that is not known here"


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without a NUL; the last character may be cut."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return b"\0" not in head and error.start >= len(head) - 3 > 0
    return b"\0" not in head


_DAMAGED = "cannot be decoded: it is damaged or cut short"
_MAGIC = (b"\x89PNG", jpeg.MAGIC, gif.MAGIC)
_HEIC = [b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1")]
_READ_BRANDS = [b"ftypavif", b"ftypavis", *(_HEIC if _HEIF else ())]
_BASE64 = (b"data:image/", b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR")  # PNG, JPEG, GIF, WebP
_TIFF = (b"II*\0", b"MM\0*")
_KINDS = {
    **dict.fromkeys(_TIFF, "a TIFF picture"),
    b"\0\0\1\0": "an ICO picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF",
    b"PK\3\4": "a ZIP archive",
}


def _too_large(what: str, most_pixels: int) -> ImageFileError:
    return _error("image_too_large", f"{what}; at most {most_pixels} are accepted")


def _error(code: Problem, message: str) -> ImageFileError:
    return ImageFileError(message, code)
