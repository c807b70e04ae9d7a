"""A PNG without what no pixel depends on, and the little of that which does matter.

Chunks are read here rather than by Pillow, which refuses much text, has too simple an idea of the
one transparent colour, and looks for an orientation in texts.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAGIC = b"\x89PNG\r\n\x1a\n"

MOST_CHUNKS = 200_000
"""Encoders write one for each 8 kilobytes of pixels; a walk over more than this takes seconds."""

_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_READ = (b"tRNS", b"eXIf", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP")
_GREY, _RGB, _PALETTE = 0, 2, 3


@dataclass(frozen=True, slots=True)
class Png:
    """What is left."""

    file: bytes  # pixels only
    facts: Mapping[bytes, bytes]  # the data of further chunks before the pixels, by name

    @property
    def exif(self) -> bytes:
        return self.facts.get(b"eXIf", b"")

    def profile(self, most: int) -> bytes:
        """The unpacked ICC profile; nothing where it has more bytes than that, or is damaged."""
        _, _, packed = self.facts.get(b"iCCP", b"").partition(b"\0")
        if packed[:1] != b"\0":
            return b""
        try:
            unpacking = zlib.decompressobj()
            profile = unpacking.decompress(packed[1:], most)
        except zlib.error:
            return b""
        return b"" if unpacking.unconsumed_tail else profile

    def alpha(self, image: Image.Image) -> Image.Image | None:
        """What the file's transparent colour or palette says of its pixels, as Pillow read them."""
        key = self.facts.get(b"tRNS", b"")
        depth, kind = self.file[24], self.file[25]
        values = np.asarray(image.convert("L") if image.mode == "1" else image)
        if kind == _PALETTE and key:
            table = np.frombuffer((key + b"\xff" * 256)[:256], np.uint8)
            return Image.fromarray(table[values])
        if kind == _GREY and len(key) >= 2:
            most = 2**depth - 1
            grey = int.from_bytes(key[:2]) & most
            clear = values == (grey if depth == 16 else grey * (255 // most))
        elif kind == _RGB and len(key) >= 6:
            colour = np.frombuffer(key[:6], np.uint8).reshape(3, 2)  # high and low bytes
            if depth == 8:
                clear = _equal(values, colour[:, 1])
            else:
                clear = _equal(values, colour[:, 0])
                clear &= _equal(self._low_bytes(), colour[:, 1])
        else:
            return None
        return Image.fromarray(np.where(clear, np.uint8(0), np.uint8(255)))

    def _low_bytes(self) -> NDArray[np.uint8]:
        """Of colours of 16 bits, of which Pillow reads the high ones."""
        with Image.open(BytesIO(self.file), formats=("PNG",)) as image:
            image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
            return np.asarray(image)


def _equal(values: NDArray[np.uint8], colour: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels have that colour; channel by channel, which takes a third of the memory."""
    found = values[..., 0] == colour[0]
    for channel in (1, 2):
        found &= values[..., channel] == colour[channel]
    return found


def read(file: bytes) -> Png:
    """What is damaged or cut short is left to the decoder.

    Raises ``ValueError`` for more chunks than any file needs.
    """
    kept, facts = bytearray(MAGIC), dict[bytes, bytes]()
    at, pixels, chunks = len(MAGIC), False, 0
    while at + 12 <= len(file):
        chunks += 1
        if chunks > MOST_CHUNKS:
            raise ValueError("too many chunks")
        name = file[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(file[at : at + 4])
        if end > len(file):
            break
        if name in _NEEDED or not name.isalpha():
            kept += memoryview(file)[at:end]
        elif name in _READ and not pixels and name not in facts:
            data = file[at + 8 : end - 4]
            if zlib.crc32(name + data) == int.from_bytes(file[end - 4 : end]):
                facts[name] = data
        pixels = pixels or name == b"IDAT"
        at = end
        if name == b"IEND":
            return Png(bytes(kept), facts)
    return Png(bytes(kept + memoryview(file)[at:]), facts)
