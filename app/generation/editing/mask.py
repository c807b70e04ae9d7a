"""Which pixels of an upload are regenerated."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.generation.editing.fit import Fit

Mask = NDArray[np.bool_]
"""[height, width], True where a pixel is regenerated."""

MaskStyle = Literal["any", "alpha"]
"""How a mask marks: "alpha" by full transparency alone, as OpenAI has it; "any" also by white."""

BRIGHT = 128


def marked(mask: Image.Image, style: MaskStyle) -> Mask:
    """What an RGBA picture marks: its fully transparent pixels, else its bright ones.

    Brightness counts only where the style is "any" and no pixel is fully transparent.
    """
    clear = np.asarray(mask.getchannel("A")) == 0
    if style == "alpha" or clear.any():
        return clear
    return np.asarray(mask.convert("RGB").convert("L")) >= BRIGHT


def is_opaque(image: Image.Image, where: Mask | None = None) -> bool:
    """Whether nothing of an RGBA picture can be seen through, there where it matters."""
    alpha = np.asarray(image.getchannel("A"))
    seen = alpha if where is None or not where.any() else alpha[where]
    return bool(seen.min() == 255)


def fitted(mask: Mask, fit: Fit) -> bytes:
    """The mask on the model's canvas, uint8, 255 is regenerated; what lies around is kept.

    A pixel of the canvas is regenerated if any pixel of the upload that it covers is. Where the
    upload was resampled, so are its eight neighbours: resampling has spread the old content there.
    """
    width, height = fit.inner
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    inner = np.logical_or.reduceat(np.logical_or.reduceat(mask, rows, axis=0), columns, axis=1)
    if fit.resampled:
        inner = np.asarray(Image.fromarray(inner).convert("L").filter(ImageFilter.MaxFilter(3))) > 0
    canvas = np.zeros((fit.canvas[1], fit.canvas[0]), np.uint8)
    left, top, right, bottom = fit.box
    canvas[top:bottom, left:right] = inner * np.uint8(255)
    return canvas.tobytes()
