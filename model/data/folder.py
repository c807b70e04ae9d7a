"""Any folder of images, with captions from where `model.data.labels` finds them.

A file that is no usable image costs a warning and a count, never the run.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from model.data.labels import SUFFIXES, find_labels
from model.data.pictures import Caption, DataError, PictureFormat, PictureSet

log = logging.getLogger(__name__)

SMALLEST = 8
"""An image with a side of fewer pixels than this is skipped."""


def load(folder: Path, form: PictureFormat) -> PictureSet:
    """Images right in the folder, of which nothing is said, have an empty caption.

    Raises `DataError` if there is no usable image or a line of captions is wrong.
    """
    found = find_labels(folder)
    pictures, captions = [], []
    skipped = 0
    for path, caption in found.images:
        try:
            pictures.append(_read(path, form))
            captions.append(caption)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
            log.warning("skipped %s: %s", path, reason)
            skipped += 1
    if not pictures:
        raise DataError(
            f"{folder}: no usable image ({skipped} skipped); expected "
            f"{', '.join(sorted(SUFFIXES))} files, in sub-folders named by what they show or "
            "listed in captions.jsonl, metadata.jsonl or metadata.csv"
        )
    groups: dict[str, list[int]] = defaultdict(list)
    for index, caption in enumerate(captions):
        groups[caption].append(index)
    # Images of one label are one group; captions of their own make plain sampling.
    return PictureSet(
        name=folder.name,
        pictures=np.stack(pictures),
        captions=captions,
        prompters=[Caption(caption) for caption in captions],
        groups=list(groups.values()),
        skipped=skipped,
        notes=found.notes,
    )


def _read(path: Path, form: PictureFormat) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        if min(picture.size) < SMALLEST:
            raise ValueError(f"{picture.width}x{picture.height}, a side is under {SMALLEST} pixels")
        return form.pixels(upright(picture))


def upright(picture: Image.Image) -> Image.Image:
    """Turned as its camera says; of 16 bits the upper eight, as of uploads.

    Raises ``ValueError`` for values that have no known range.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise ValueError("has floating-point values, of unknown range")
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise ValueError("has values beyond 16 bits")
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    return picture
