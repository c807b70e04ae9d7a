"""Pixels to files: resampled, laid on a background, encoded as PNG, WebP or JPEG.

The same picture, encoding and caption give the same bytes with the same libraries
(`ENCODER` names their versions). Knows nothing of HTTP; takes a millisecond or more, so call it
off the event loop.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from model.protocol import Picture

Format = Literal["png", "webp", "jpeg"]

MEDIA_TYPES: dict[Format, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
}

TRANSPARENT = "transparent"
SOFTWARE = "Tessera"

_LIBRARIES = ("zlib", "webp", "jpg", "libjpeg_turbo")
ENCODER = "1 pillow " + " ".join(
    [features.version("pil") or "", *(features.version(name) or "" for name in _LIBRARIES)]
)
"""All that may change the bytes of a file besides its pixels; the first number is this module's."""

_EXIF_DESCRIPTION = 0x010E
_EXIF_SOFTWARE = 0x0131


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a picture becomes a file."""

    format: Format
    size: int  # pixels along each side
    background: str  # "rrggbb", or "transparent" (not for jpeg)
    quality: int  # 1 to 100, for webp and jpeg


@dataclass(frozen=True, slots=True)
class Caption:
    """What a file says of itself."""

    prompt: str
    seed: int
    model: str
    numerics: str


def encode(picture: Picture, encoding: Encoding, caption: Caption) -> bytes:
    """The file. Its caption is in PNG text chunks, or as JSON in the Exif image description."""
    image = _resample(_lay(_open(picture), encoding.background), encoding.size)
    file = BytesIO()
    match encoding.format:
        case "png":
            image.save(file, "PNG", pnginfo=_png_text(caption))
        case "webp":
            image.save(file, "WEBP", quality=encoding.quality, method=4, exif=_exif(caption))
        case "jpeg":
            image.save(file, "JPEG", quality=encoding.quality, exif=_exif(caption))
    return file.getvalue()


def read_caption(file: bytes) -> Caption | None:
    """What `encode` wrote, if it did."""
    with Image.open(BytesIO(file)) as image:
        image.load()
        if image.format == "PNG":
            fields = {key: value for key, value in image.info.items() if key in Caption.__slots__}
        else:
            text = str(image.getexif().get(_EXIF_DESCRIPTION, "{}"))
            fields = json.loads(text) if text.startswith("{") else {}
    if set(fields) != set(Caption.__slots__):
        return None
    return Caption(
        prompt=str(fields["prompt"]),
        seed=int(fields["seed"]),
        model=str(fields["model"]),
        numerics=str(fields["numerics"]),
    )


def _open(picture: Picture) -> Image.Image:
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[picture.channels]
    return Image.frombytes(mode, (picture.width, picture.height), picture.pixels)


def _lay(image: Image.Image, background: str) -> Image.Image:
    """The picture on a colour; untouched if transparent, or if it has nothing to see through."""
    if background == TRANSPARENT:
        return image
    if image.mode != "RGBA":
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, f"#{background}")
    return Image.alpha_composite(ground, image).convert("RGB")


def _resample(image: Image.Image, size: int) -> Image.Image:
    """Lanczos, on premultiplied colours where there is transparency (Pillow sees to that)."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.LANCZOS)


def _png_text(caption: Caption) -> PngInfo:
    info = PngInfo()
    info.add_text("Software", SOFTWARE)
    # NUL ends a text chunk's fields, so that it cannot be in one.
    info.add_itxt("prompt", caption.prompt.replace("\0", " "))
    info.add_text("seed", str(caption.seed))
    info.add_text("model", caption.model)
    info.add_text("numerics", caption.numerics)
    return info


def _exif(caption: Caption) -> bytes:
    # Exif text is ASCII; JSON writes the rest of Unicode in it.
    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = SOFTWARE
    exif[_EXIF_DESCRIPTION] = json.dumps(
        {
            "prompt": caption.prompt,
            "seed": caption.seed,
            "model": caption.model,
            "numerics": caption.numerics,
        }
    )
    return exif.tobytes()
