"""Pictures as files, in all the ways in which clients have them, and the same ones mangled."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from model.image_files import colour

ORIENTATION = 0x0112

SRGB, P3 = (colour._PRIMARIES[code] for code in (1, 12))
DISPLAY_P3 = colour.matrix_profile(P3, colour._SRGB_CURVE)


def drawing(width: int = 40, height: int = 24) -> Image.Image:
    """RGBA: a red disc, a green corner, a soft edge, the rest clear."""
    image = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 4, 2, width // 4 + height - 5, height - 3), fill=(220, 30, 40, 255))
    draw.rectangle((0, 0, width // 5, height // 5), fill=(20, 160, 60, 255))
    draw.rectangle((width - 6, 0, width - 1, height - 1), fill=(30, 60, 200, 128))
    return image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """RGBA, every byte random, alpha too."""
    dice = np.random.default_rng(seed)
    return Image.fromarray(dice.integers(0, 256, (height, width, 4), np.uint8))


def box_mask(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """White in the box (left, top, right, bottom, all within), black around."""
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def written(image: Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG that Pillow does not write: any depth, and chunks of one's own before the data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def grey_16(values: list[list[int]], clear: int | None = None) -> bytes:
    """Grey of 16 bits, of which one value may stand for nothing."""
    rows = b"".join(b"\0" + struct.pack(f">{len(row)}H", *row) for row in values)
    chunks = () if clear is None else (chunk(b"tRNS", struct.pack(">H", clear)),)
    return png(len(values[0]), len(values), 16, 0, rows, *chunks)


def rgb_16(values: list[list[tuple[int, int, int]]]) -> bytes:
    rows = b"".join(b"\0" + b"".join(struct.pack(">3H", *pixel) for pixel in row) for row in values)
    return png(len(values[0]), len(values), 16, 2, rows)


def keyed(depth: int, kind: int, values: list[int], key: bytes) -> bytes:
    """A PNG of one row, with a tRNS chunk. Its values are of that depth, one after the other."""
    bits = "".join(f"{value:0{depth}b}" for value in values)
    row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    colours = bytes(range(3 * 2 ** min(depth, 6))) if kind == 3 else b""
    palette = (chunk(b"PLTE", colours),) if colours else ()
    width = len(values) // (3 if kind == 2 else 1)
    return png(width, 1, depth, kind, b"\0" + row, *palette, chunk(b"tRNS", key))


def with_chunks(file: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks of one's own behind its head."""
    return file[:33] + b"".join(chunks) + file[33:]


def with_segments(file: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with segments of one's own, each with its marker, behind its first two bytes."""
    made = (
        bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data for code, data in segments
    )
    return file[:2] + b"".join(made) + file[2:]


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def animation(form: str, frames: int = 3, size: int = 24) -> bytes:
    """Red first, then other colours."""
    colours = ["red", "lime", "blue", "white"]
    images = [Image.new("RGB", (size, size), colours[k % 4]) for k in range(frames)]
    return written(images[0], form, save_all=True, append_images=images[1:], duration=50)


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes with as many pixels as there is no memory for."""
    packer = zlib.compressobj(9)
    row = bytes(side // 8 + 1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def scan_bomb(scans: int) -> bytes:
    """A JPEG that passes over its pixels again and again, at 30 bytes a time."""
    file = written(Image.new("RGB", (640, 640), "red"), "JPEG", progressive=True)
    last = file[file.rfind(b"\xff\xda") : -2]
    return file[:-2] + last * scans + b"\xff\xd9"


def good() -> dict[str, bytes]:
    """Every kind that is read, by a name for it."""
    image = drawing()
    rgb = image.convert("RGB")
    palette = rgb.quantize(16)
    ground = palette.getpixel((1, 20))
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "a" * 1000, zip=True)
    return {
        "png rgba": written(image, "PNG"),
        "png rgb": written(rgb, "PNG"),
        "png grey": written(rgb.convert("L"), "PNG"),
        "png grey alpha": written(image.convert("LA"), "PNG"),
        "png 1 bit": written(rgb.convert("1"), "PNG"),
        "png palette": written(palette, "PNG"),
        "png palette alpha": written(image.quantize(16), "PNG"),
        "png palette clear": written(palette, "PNG", transparency=ground),
        "png colour clear": written(rgb, "PNG", transparency=(0, 0, 0)),
        "png 16 bit": grey_16([[0, 30000, 65535]] * 3),
        "png 16 bit rgb": rgb_16([[(0, 30000, 65535)] * 3] * 3),
        "png text": written(image, "PNG", pnginfo=text),
        "apng": animation("PNG"),
        "jpeg": written(rgb, "JPEG", quality=90),
        "jpeg progressive": written(rgb, "JPEG", progressive=True),
        "jpeg grey": written(rgb.convert("L"), "JPEG"),
        "jpeg cmyk": written(rgb.convert("CMYK"), "JPEG"),
        "jpeg turned": written(rgb, "JPEG", exif=exif(6)),
        "webp": written(image, "WEBP"),
        "webp lossless": written(image, "WEBP", lossless=True),
        "webp animated": animation("WEBP"),
        "avif": written(image, "AVIF"),
        "gif": written(palette, "GIF"),
        "gif clear": written(palette, "GIF", transparency=ground),
        "gif animated": animation("GIF"),
    }


@dataclass(frozen=True)
class Mangled:
    """A file that was good once."""

    name: str
    file: bytes


def mangled(count: int, seed: int = 0) -> Iterator[Mangled]:
    """Good files with bytes changed, cut, doubled, dropped, or joined with another's."""
    draw = np.random.default_rng(seed)
    files = list(good().items())
    for number in range(count):
        name, file = files[number % len(files)]
        data = bytearray(file)
        how = int(draw.integers(0, 6))
        at, length = int(draw.integers(0, len(data))), int(draw.integers(1, 64))
        match how:
            case 0:  # a few bytes, anywhere
                for place in draw.integers(0, len(data), int(draw.integers(1, 9))):
                    data[place] = int(draw.integers(0, 256))
            case 1:  # a few bytes of the head, where sizes and kinds are
                for place in draw.integers(0, min(64, len(data)), 3):
                    data[place] = int(draw.integers(0, 256))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = draw.integers(0, 256, length, np.uint8).tobytes()
            case _:
                data[at:] = files[int(draw.integers(0, len(files)))][1][at // 2 :]
        yield Mangled(f"{number}: {name}, way {how}", bytes(data))
