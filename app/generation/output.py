"""Pixels to files: framed, resampled, laid on a background, encoded as PNG, WebP or JPEG.

The same picture, output and metadata give the same bytes with the same libraries (`ENCODER` names
their versions). Takes a millisecond or more: call it off the event loop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from model.request import Picture

Format = Literal["png", "webp", "jpeg"]

MEDIA_TYPES: dict[Format, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
}

TRANSPARENT = "transparent"
SOFTWARE = "Tessera"

ANIMATED: tuple[Format, ...] = ("webp", "png")
"""Formats that can be animated, the better one first."""

FRAME_SECONDS = 0.12

_LIBRARIES = ("zlib", "webp", "jpg", "libjpeg_turbo")
ENCODER = "1 pillow " + " ".join(
    [features.version("pil") or "", *(features.version(name) or "" for name in _LIBRARIES)]
)
"""All that may change the bytes of a file besides its pixels; the first number is this module's."""

_EXIF_DESCRIPTION = 0x010E
_EXIF_SOFTWARE = 0x0131


@dataclass(frozen=True, slots=True)
class Output:
    """How a picture becomes a file."""

    format: Format
    width: int  # pixels
    height: int
    background: str  # "rrggbb", or "transparent" (not for jpeg)
    quality: int  # 1 to 100, for webp and jpeg


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of itself."""

    prompt: str
    seed: int
    model: str
    numerics: str
    operation: str = "generate"  # said only where it is another

    @property
    def fields(self) -> dict[str, str | int]:
        """What is written, by name."""
        fields: dict[str, str | int] = {
            "prompt": self.prompt,
            "seed": self.seed,
            "model": self.model,
            "numerics": self.numerics,
        }
        return fields if self.operation == "generate" else fields | {"operation": self.operation}


Framing = Callable[[Image.Image], Image.Image]
"""What is done to a model's picture (RGB or RGBA) before it becomes a file."""


def encode(
    picture: Picture, output: Output, metadata: Metadata, framing: Framing | None = None
) -> bytes:
    """The file. Its metadata is in PNG text chunks, or as JSON in the Exif image description."""
    image = finish(picture, output, framing)
    file = BytesIO()
    match output.format:
        case "png":
            image.save(file, "PNG", pnginfo=_png_text(metadata))
        case "webp":
            image.save(file, "WEBP", quality=output.quality, method=4, exif=_exif(metadata))
        case "jpeg":
            image.save(file, "JPEG", quality=output.quality, exif=_exif(metadata))
    return file.getvalue()


def encode_animation(pictures: Sequence[Picture], output: Output, metadata: Metadata) -> bytes:
    """One animated file of them all, without an end: animated WebP or PNG."""
    frames = [finish(picture, output, None) for picture in pictures]
    return animated(frames, output.format, output.quality, metadata)


def animated(
    frames: Sequence[Image.Image],
    format_: Format,
    quality: int = 90,
    metadata: Metadata | None = None,
) -> bytes:
    """Frames one after the other for `FRAME_SECONDS` each, again and again."""
    file = BytesIO()
    first, *others = frames
    how: dict[str, Any] = {
        "save_all": True,
        "append_images": others,
        "duration": round(1000 * FRAME_SECONDS),
        "loop": 0,
    }
    match format_:
        case "png":
            first.save(file, "PNG", pnginfo=_png_text(metadata) if metadata else None, **how)
        case "webp":
            exif = _exif(metadata) if metadata else b""
            first.save(file, "WEBP", quality=quality, method=4, exif=exif, **how)
        case "jpeg":
            raise ValueError("a jpeg cannot be animated")
    return file.getvalue()


def finish(picture: Picture, output: Output, framing: Framing | None) -> Image.Image:
    """What the file shows, before it is written."""
    image = open_picture(picture)
    if framing is not None:
        image = framing(image)
    return _resample(_lay(image, output.background), (output.width, output.height))


def open_picture(picture: Picture) -> Image.Image:
    """The same pixels, as Pillow holds them."""
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


def _resample(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Lanczos, on premultiplied colours where there is transparency (Pillow sees to that)."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _png_text(metadata: Metadata) -> PngInfo:
    info = PngInfo()
    info.add_text("Software", SOFTWARE)
    for name, value in metadata.fields.items():
        # NUL ends a text chunk's fields, so that it cannot be in one.
        text = str(value).replace("\0", " ")
        (info.add_itxt if name == "prompt" else info.add_text)(name, text)
    return info


def _exif(metadata: Metadata) -> bytes:
    # Exif text is ASCII; JSON writes the rest of Unicode in it.
    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = SOFTWARE
    exif[_EXIF_DESCRIPTION] = json.dumps(metadata.fields)
    return exif.tobytes()
