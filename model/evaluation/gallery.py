"""All real pictures, small, to find the nearest in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.emoji import Emoji, read_pictures
from model.evaluation.share import Share

SIDE = 32
ALIKE = 0.02
"""Two real pictures whose root mean squared difference (0…1) is below this count as one."""

Floats = NDArray[np.float32]


class Gallery:
    """All real pictures, of every split, to find the nearest in."""

    def __init__(self, records: Sequence[Emoji]) -> None:
        self.records = list(records)
        self._pixels = np.stack([thumbnail(picture) for picture in read_pictures(records)])
        self._squares = np.square(self._pixels).sum(1)
        self._place = {(r.style, r.codepoints): index for index, r in enumerate(self.records)}

    def nearest(self, pixels: Floats, style: str | None) -> int:
        """The place of the picture with the least squared difference, within a style or all."""
        score = self._squares - 2 * self._pixels @ pixels
        if style is not None:
            score[~self._of(style)] = np.inf
        return int(score.argmin())

    def finds(self, pixels: Floats, wanted: Emoji, style: str | None) -> bool:
        """Whether the nearest picture is the wanted one, or looks like it."""
        nearest = self.nearest(pixels, style)
        found = self.records[nearest]
        twin = self._place.get((found.style, wanted.codepoints))
        return twin is not None and self._alike(nearest, twin)

    def _alike(self, one: int, other: int) -> bool:
        difference = np.square(self._pixels[one] - self._pixels[other]).mean()
        return math.sqrt(difference) < ALIKE

    def neighbour(self, record: Emoji) -> Emoji:
        """The picture of another symbol, in the same style, that looks most like this one."""
        own = self._pixels[self._place[record.style, record.codepoints]]
        score = self._squares - 2 * self._pixels @ own
        score[[r.style != record.style or r.base == record.base for r in self.records]] = np.inf
        return self.records[int(score.argmin())]

    def true(self, wanted: Emoji) -> Floats:
        """The real picture itself."""
        return self._pixels[self._place[wanted.style, wanted.codepoints]]

    def ceiling(self, style: str) -> Share:
        """Real pictures that no other of their style looks like: what drawing one cannot beat."""
        own = self._of(style)
        pixels, squares = self._pixels[own], self._squares[own]
        alone = 0
        for row in range(0, len(pixels), 256):  # in blocks, to bound memory
            some = slice(row, row + 256)
            distance = squares[some, None] + squares - 2 * pixels[some] @ pixels.T
            distance[np.arange(len(distance)), np.arange(row, row + len(distance))] = np.inf
            alone += int((distance.min(1) >= pixels.shape[1] * ALIKE**2).sum())
        return Share(alone, len(pixels))

    def _of(self, style: str) -> NDArray[np.bool_]:
        return np.array([record.style == style for record in self.records])


def thumbnail(image: Image.Image) -> Floats:
    """On white, at 32 × 32, flattened to [3072], 0…1."""
    rgba = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    small = flat.resize((SIDE, SIDE), Image.Resampling.BOX)
    values: Floats = np.asarray(small, dtype=np.float32).ravel() / np.float32(255)
    return values
