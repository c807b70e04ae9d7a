"""Forty drawings with captions to train on: ten things in four colours, 256 pixels wide.

``python -m tests.drawings FOLDER`` writes them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 256
FINE = 4  # pixels drawn for each that is kept, along a side

COLORS = {
    "red": ("#e0453a", "#a92b26", "#fdeae4"),
    "blue": ("#3f7fd9", "#28569c", "#e6effb"),
    "green": ("#4caf61", "#2f7d43", "#e8f6e6"),
    "yellow": ("#f6c32f", "#c8901a", "#fff7dc"),
}
"""Fill, shade and background."""

INK = "#3b3340"
WHITE = "#fffdf8"
WOOD = "#8a5a3c"
GLASS = "#bfe3f2"


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws in units of a hundredth of the side."""

    draw: ImageDraw.ImageDraw
    fill: str
    shade: str

    def oval(self, x: float, y: float, a: float, b: float, color: str = "") -> None:
        box = [_px(value) for value in (x - a, y - b, x + a, y + b)]
        self.draw.ellipse(box, color or self.fill)

    def box(self, x: float, y: float, a: float, b: float, color: str = "", r: float = 0) -> None:
        corners = [_px(value) for value in (x, y, a, b)]
        self.draw.rounded_rectangle(corners, _px(r), color or self.fill)

    def shape(self, *points: tuple[float, float], color: str = "") -> None:
        self.draw.polygon([(_px(x), _px(y)) for x, y in points], color or self.fill)

    def line(self, *points: tuple[float, float], width: float = 2, color: str = INK) -> None:
        self.draw.line([(_px(x), _px(y)) for x, y in points], color, round(_px(width)), "curve")

    def slice(
        self, x: float, y: float, a: float, b: float, start: float, end: float, color: str = ""
    ) -> None:
        box = [_px(value) for value in (x - a, y - b, x + a, y + b)]
        self.draw.pieslice(box, start, end, color or self.fill)


def _px(value: float) -> float:
    return value * SIDE * FINE / 100


def _apple(pen: Pen) -> None:
    pen.oval(40, 58, 22, 25)
    pen.oval(60, 58, 22, 25)
    pen.oval(33, 50, 5, 8, WHITE)
    pen.line((50, 38), (52, 28), (57, 21), width=3, color=WOOD)
    pen.slice(66, 32, 13, 12, 160, 290, "#5a9e4b")


def _house(pen: Pen) -> None:
    pen.box(64, 20, 72, 40, WOOD)
    pen.box(25, 45, 75, 82, WHITE)
    pen.shape((17, 48), (50, 17), (83, 48))
    pen.box(43, 60, 57, 82, pen.shade, 2)
    pen.box(30, 54, 39, 64, GLASS, 1)
    pen.box(61, 54, 70, 64, GLASS, 1)


def _car(pen: Pen) -> None:
    pen.shape((26, 52), (36, 33), (63, 33), (76, 52), color=pen.shade)
    pen.shape((32, 51), (39, 37), (48, 37), (48, 51), color=GLASS)
    pen.shape((52, 51), (52, 37), (61, 37), (69, 51), color=GLASS)
    pen.box(12, 49, 88, 69, r=7)
    for x in (30, 70):
        pen.oval(x, 69, 10, 10, INK)
        pen.oval(x, 69, 4.5, 4.5, WHITE)


def _fish(pen: Pen) -> None:
    pen.shape((66, 50), (90, 30), (86, 50), (90, 70), color=pen.shade)
    pen.shape((38, 34), (52, 20), (60, 36), color=pen.shade)
    pen.oval(44, 50, 32, 20)
    pen.slice(44, 50, 32, 20, 130, 230, pen.shade)
    pen.oval(26, 45, 4.5, 4.5, WHITE)
    pen.oval(25, 45, 2.2, 2.2, INK)
    pen.slice(52, 54, 9, 8, -40, 120, pen.shade)


def _mushroom(pen: Pen) -> None:
    pen.box(40, 48, 60, 84, WHITE, 8)
    pen.slice(50, 54, 37, 36, 180, 360)
    pen.oval(50, 54, 37, 5, pen.shade)
    for x, y, r in ((34, 42, 6), (54, 30, 6.5), (70, 45, 5)):
        pen.oval(x, y, r, r * 0.85, WHITE)


def _balloon(pen: Pen) -> None:
    pen.line((50, 68), (47, 78), (53, 86), (50, 96), width=1.2)
    pen.shape((50, 64), (45, 72), (55, 72), color=pen.shade)
    pen.oval(50, 38, 25, 29)
    pen.oval(40, 27, 5, 8, WHITE)


def _boat(pen: Pen) -> None:
    pen.box(0, 78, 100, 100, "#8fc7de")
    pen.line((50, 68), (50, 13), width=2.5, color=WOOD)
    pen.shape((53, 15), (53, 60), (83, 60))
    pen.shape((47, 22), (47, 60), (22, 60), color=WHITE)
    pen.shape((15, 66), (85, 66), (72, 84), (28, 84), color=WOOD)


def _flower(pen: Pen) -> None:
    pen.line((50, 50), (50, 95), width=4, color="#5a9e4b")
    pen.slice(64, 80, 15, 10, 100, 270, "#5a9e4b")
    for turn in range(6):
        angle = math.pi * turn / 3
        pen.oval(50 + 18 * math.cos(angle), 40 + 18 * math.sin(angle), 12, 12)
    pen.oval(50, 40, 11, 11, WOOD)


def _cup(pen: Pen) -> None:
    pen.oval(73, 55, 15, 14)
    pen.oval(73, 55, 8, 7.5, "#ffffff")
    pen.oval(50, 83, 36, 5, "#d7cfc8")
    pen.box(22, 36, 72, 80, r=12)
    pen.oval(47, 38, 25, 6, pen.shade)
    for x in (38, 47, 56):
        pen.line((x, 27), (x + 2, 20), (x - 1, 12), width=2, color="#b9b0aa")


def _butterfly(pen: Pen) -> None:
    for side in (-1, 1):
        pen.oval(50 + side * 22, 37, 21, 19)
        pen.oval(50 + side * 18, 66, 15, 16, pen.shade)
        pen.oval(50 + side * 24, 35, 8, 7, WHITE)
        pen.line((50, 28), (50 + side * 5, 17), (50 + side * 11, 13), width=1.6)
    pen.oval(50, 52, 4.5, 27, INK)


THINGS: dict[str, Callable[[Pen], None]] = {
    "apple": _apple,
    "house": _house,
    "car": _car,
    "fish": _fish,
    "mushroom": _mushroom,
    "balloon": _balloon,
    "boat": _boat,
    "flower": _flower,
    "cup": _cup,
    "butterfly": _butterfly,
}


def drawings() -> dict[str, Image.Image]:
    """The forty by their captions."""
    return {
        f"a {color} {thing}": _drawn(draw, *shades)
        for thing, draw in THINGS.items()
        for color, shades in COLORS.items()
    }


def _drawn(draw: Callable[[Pen], None], fill: str, shade: str, background: str) -> Image.Image:
    image = Image.new("RGB", (SIDE * FINE, SIDE * FINE), background)
    draw(Pen(ImageDraw.Draw(image), fill, shade))
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def write_drawings(folder: Path) -> Path:
    """Makes the folder, with ``captions.jsonl``."""
    folder.mkdir(parents=True)
    lines = []
    for caption, image in drawings().items():
        name = f"{caption.replace(' ', '-')}.png"
        image.save(folder / name)
        lines.append(json.dumps({"file": name, "caption": caption}) + "\n")
    (folder / "captions.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


if __name__ == "__main__":
    write_drawings(Path(sys.argv[1]))
