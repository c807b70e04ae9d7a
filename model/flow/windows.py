"""Where windows of the network's own size lie on a larger image. Imports no torch."""

from __future__ import annotations

from itertools import product

Size = tuple[int, int]
"""Width and height in pixels."""


def corners(image: Size, window: Size) -> tuple[tuple[int, int], ...]:
    """The left and top of each window, row by row; one for an image of a window's size.

    The image must be as large as a window or larger along both sides.
    """
    across, down = (_along(*sides) for sides in zip(image, window, strict=True))
    return tuple((left, top) for top, left in product(down, across))


def _along(side: int, window: int) -> tuple[int, ...]:
    """Where windows begin: evenly spread, at least a quarter of each in the one before."""
    rest, stride = side - window, window - window // 4
    gaps = -(-rest // stride)
    return (0, *(rest * gap // gaps for gap in range(1, gaps + 1)))
