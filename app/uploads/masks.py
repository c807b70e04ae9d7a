"""Which pixels of an upload are to be made anew."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.uploads.fitting import Fit

Mask = NDArray[np.bool_]
"""[height, width], True where a pixel is made anew."""

Rule = Literal["any", "alpha"]
"""How a mask marks: "alpha" by full transparency alone, as OpenAI has it; "any" also by white."""

BRIGHT = 128


def marked(mask: Image.Image, rule: Rule) -> Mask:
    """What an RGBA picture marks: its fully transparent pixels, else its bright ones.

    Brightness counts only where the rule is "any" and no pixel is fully transparent.
    """
    clear = np.asarray(mask.getchannel("A")) == 0
    if rule == "alpha" or clear.any():
        return clear
    return np.asarray(mask.convert("RGB").convert("L")) >= BRIGHT


def is_opaque(image: Image.Image, where: Mask | None = None) -> bool:
    """Whether nothing of an RGBA picture can be seen through, there where it matters."""
    alpha = np.asarray(image.getchannel("A"))
    seen = alpha if where is None or not where.any() else alpha[where]
    return bool(seen.min() == 255)


def fitted(mask: Mask, fit: Fit) -> bytes:
    """The mask in the model's square, uint8, 255 is made anew; what lies around is kept.

    A place is made anew if any pixel of it is. Where the picture was resampled, so are the places
    next to it: resampling has spread the old content into them.
    """
    width, height = fit.inner
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    inner = np.logical_or.reduceat(np.logical_or.reduceat(mask, rows, axis=0), columns, axis=1)
    if fit.resampled:
        inner = _widened(inner)
    square = np.zeros((fit.side, fit.side), np.uint8)
    left, top, right, bottom = fit.box
    square[top:bottom, left:right] = inner * np.uint8(255)
    return square.tobytes()


def _widened(mask: Mask) -> Mask:
    """By one place in all eight directions."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifts = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    wide: Mask = np.logical_or.reduce(shifts)
    return wide
