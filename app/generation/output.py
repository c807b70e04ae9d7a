"""Pixels to files: framed, resampled, laid on a background, encoded as PNG, WebP or JPEG.

A file says in XMP that a machine made it, or a part of it: IPTC's ``DigitalSourceType``. The same
picture, output and metadata give the same bytes with the same libraries (`ENCODER` names
their versions). Takes a millisecond or more: call it off the event loop.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Literal

from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from model.request import Picture

Format = Literal["png", "webp", "jpeg"]

SPELLINGS: dict[str, Format] = {"jpg": "jpeg"}
"""Other names of formats, which people write."""

Detail = Literal["none", "source", "full"]
"""How much a file says of itself: nothing, that a machine made it, or also from what."""

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

WHOLE_COLOURS = 90
"""The quality from which on a JPEG has colours for each pixel, not for four at once."""

_LIBRARIES = ("zlib", "webp", "jpg", "libjpeg_turbo")
ENCODER = "3 pillow " + " ".join(
    [features.version("pil") or "", *(features.version(name) or "" for name in _LIBRARIES)]
)
"""All that may change the bytes of a file besides its pixels; the first number is this module's."""

_DRAWN: dict[str, Any] = {"compress_type": zlib.Z_RLE}
"""How PNG files of drawn pixels are compressed: nothing in them repeats to the bit but runs of one
colour. That takes a third of the time, for files of nearly the same size. Those of uploads, which
may be screenshots, would be up to 30 times as large."""

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
    metadata: Detail = "full"

    def at_most(self, longer: int) -> Output:
        """The same, with no more pixels than that along the longer side."""
        scale = longer / max(self.width, self.height)
        if scale >= 1:
            return self
        width, height = (max(1, round(side * scale)) for side in (self.width, self.height))
        return replace(self, width=width, height=height)


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

    @property
    def source(self) -> str:
        """Whether all of the picture was made by a model, or a part of an uploaded one was.

        An address of IPTC's NewsCodes, "Digital Source Type".
        """
        drawn = self.operation in ("generate", "walk")
        kind = "trainedAlgorithmicMedia" if drawn else "compositeWithTrainedAlgorithmicMedia"
        return f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"

    @property
    def xmp(self) -> bytes:
        """The same as a packet: IPTC Photo Metadata Standard 2024.1."""
        return _XMP.format(source=self.source, software=SOFTWARE).encode()


_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmp:CreatorTool="{software}"'
    ' Iptc4xmpExt:DigitalSourceType="{source}"/>'
    "</rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


Framing = Callable[[Image.Image], Image.Image]
"""What is done to a model's picture (RGB or RGBA) before it becomes a file."""


def encode(
    picture: Picture, output: Output, metadata: Metadata, framing: Framing | None = None
) -> bytes:
    """The file; with ``framing`` it is one of an upload.

    Its metadata is in PNG text chunks, or as JSON in the Exif image description.
    """
    image = finish(picture, output, framing)
    file = BytesIO()
    said = _said(output.format, metadata, output.metadata)
    match output.format:
        case "png":
            image.save(file, "PNG", **said, **({} if framing else _DRAWN))
        case "webp":
            image.save(file, "WEBP", quality=output.quality, method=4, **said)
        case "jpeg":
            # Colours at half the resolution are what makes edges between colours dirty.
            colours = "4:4:4" if output.quality >= WHOLE_COLOURS else "4:2:0"
            image.save(file, "JPEG", quality=output.quality, subsampling=colours, **said)
    return file.getvalue()


def encode_animation(pictures: Sequence[Picture], output: Output, metadata: Metadata) -> bytes:
    """One animated file of them all, without an end: animated WebP or PNG."""
    frames = [finish(picture, output, None) for picture in pictures]
    return animated(frames, output.format, output.quality, metadata, output.metadata)


def animated(
    frames: Sequence[Image.Image],
    format_: Format,
    quality: int = 90,
    metadata: Metadata | None = None,
    detail: Detail = "full",
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
    said = _said(format_, metadata, detail) if metadata else {}
    match format_:
        case "png":
            first.save(file, "PNG", **said, **how, **_DRAWN)
        case "webp":
            first.save(file, "WEBP", quality=quality, method=4, **said, **how)
        case "jpeg":
            raise ValueError("a jpeg cannot be animated")
    return file.getvalue()


def made_by_machine(image: Image.Image) -> bytes:
    """A PNG that says this of itself, and nothing else."""
    file = BytesIO()
    image.save(file, "PNG", **_said("png", Metadata("", 0, "", ""), "source"))
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


def _said(format_: Format, metadata: Metadata, detail: Detail) -> dict[str, Any]:
    """What Pillow is given to write beside the pixels."""
    if detail == "none":
        return {}
    if format_ == "png":
        return {"pnginfo": _png_text(metadata, detail)}
    return {"exif": _exif(metadata, detail), "xmp": metadata.xmp}


def _png_text(metadata: Metadata, detail: Detail) -> PngInfo:
    info = PngInfo()
    info.add_text("Software", SOFTWARE)
    info.add_itxt("XML:com.adobe.xmp", metadata.xmp)
    if detail == "source":
        return info
    for name, value in metadata.fields.items():
        # NUL ends a text chunk's fields, so that it cannot be in one.
        text = str(value).replace("\0", " ")
        (info.add_itxt if name == "prompt" else info.add_text)(name, text)
    return info


def _exif(metadata: Metadata, detail: Detail) -> bytes:
    # Exif text is ASCII; JSON writes the rest of Unicode in it.
    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = SOFTWARE
    if detail == "full":
        exif[_EXIF_DESCRIPTION] = json.dumps(metadata.fields)
    return exif.tobytes()
