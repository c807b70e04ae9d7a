"""Contact sheets with captions.

Pillow's own font is there on every machine, and has Latin letters without accents. What it lacks
is written with a font of the system, where it has one of those that Chinese readers install.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from model.request import Picture

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


def to_image(picture: Picture, background: str | None = None) -> Image.Image:
    """A Pillow image; with ``background`` a colour, RGB on it, else as it is."""
    mode = {3: "RGB", 4: "RGBA"}[picture.channels]
    image = Image.frombytes(mode, (picture.width, picture.height), picture.pixels)
    if background is None or mode == "RGB":
        return image
    ground = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(ground, image).convert("RGB")


def contact_sheet(
    pictures: Sequence[Picture], captions: Sequence[str], columns: int = 8, scale: int = 2
) -> Image.Image:
    """Images on white in rows, enlarged ``scale`` times, each with its caption under it."""
    width = pictures[0].width * scale
    height = pictures[0].height * scale
    text, gap = 22, 8
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = Image.new(
        "RGB", (columns * (width + gap) + gap, rows * (height + text + gap) + gap), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x = gap + index % columns * (width + gap)
        y = gap + index // columns * (height + text + gap)
        image = to_image(picture, "white").resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(image, (x, y))
        words, font = render_caption(caption, 10, width)
        draw.text((x + width / 2, y + height + 4), words, "#333", font, "ma")
    return sheet


def render_caption(text: str, size: int, width: int) -> tuple[str, Font]:
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
