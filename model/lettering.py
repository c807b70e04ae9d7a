"""Captions in pictures: a font that has the letters, and as much of the words as fits.

Pillow's own font is there on every machine, and has Latin letters without accents. What it lacks
is written with a font of the system, where it has one of those that Chinese readers install.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WIDE = (
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
)
"""Fonts with Latin and Chinese letters, of Linux, macOS and Windows."""

NO_LETTER = "\uffff"


def lettering(text: str, size: int, width: int) -> tuple[str, Font]:
    """What can be written of ``text`` within ``width`` pixels, and the font for it.

    Letters that no font has become question marks.
    """
    plain = ImageFont.load_default(size)
    font: Font = plain
    if _lacking(text, plain):
        text = _bare(text)
        font = _wide(size) if _lacking(text, plain) else plain
    for letter in _lacking(text, font):
        text = text.replace(letter, "?")
    return _shorten(text, width, font), font


def _bare(text: str) -> str:
    """Without accents; × as a letter."""
    apart = unicodedata.normalize("NFKD", text.replace("×", "x"))
    return unicodedata.normalize("NFC", "".join(c for c in apart if not unicodedata.combining(c)))


def _lacking(text: str, font: Font) -> set[str]:
    blank = bytes(font.getmask(NO_LETTER))
    return {letter for letter in text if letter != " " and bytes(font.getmask(letter)) == blank}


@cache
def _wide(size: int) -> Font:
    for name in WIDE:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _shorten(text: str, width: int, font: Font) -> str:
    while font.getlength(text) > width:
        text = text[:-2].rstrip(" ,，") + "…" if len(text) > 2 else ""
    return text
