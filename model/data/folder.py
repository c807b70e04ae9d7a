"""Any folder of images, with captions from a ``captions.jsonl`` or from its sub-folders' names.

A file that is no usable image costs a warning and a count, never the run.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from model.data.pictures import Caption, DataError, PictureFormat, PictureSet

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
SMALLEST = 8
"""An image with a side of fewer pixels than this is skipped."""


def load(folder: Path, form: PictureFormat) -> PictureSet:
    """Reads ``{"file": …, "caption": …}`` lines, or one sub-folder for each caption.

    Images right in the folder have an empty caption. ``file_name`` and ``text`` are read too.
    Raises `DataError` if there is no usable image or a line of captions is wrong.
    """
    pictures, captions = [], []
    skipped = 0
    for path, caption in _entries(folder):
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
            "listed in captions.jsonl"
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
    )


def _entries(folder: Path) -> Iterator[tuple[Path, str]]:
    listing = folder / "captions.jsonl"
    if not listing.is_file():
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                label = path.relative_to(folder).parts[0] if path.parent != folder else ""
                yield path, label.replace("_", " ")
        return
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            name, caption = row.get("file") or row["file_name"], row.get("caption") or row["text"]
            yield folder / name, str(caption)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{listing}, line {number}: expected "
                f'{{"file": "a.png", "caption": "…"}}, got {line[:80]!r}'
            ) from error


def _read(path: Path, form: PictureFormat) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as picture:
        if min(picture.size) < SMALLEST:
            raise ValueError(f"{picture.width}x{picture.height}, a side is under {SMALLEST} pixels")
        return form.pixels(picture)
