"""How many images there are and of what size, known before any of them is read as a whole."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from model.data import cifar, emoji
from model.data.labels import Entry, check_folders, find_labels

EMOJI_SIDE = 128

LOOKED_AT = 200
"""Images whose size is looked up."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Of what a run is to train on."""

    images: int
    side: int | None  # pixels: the median of the longer sides; None where no file could be read


def survey(paths: Sequence[Path]) -> Survey:
    """Raises `DataError` where a folder is missing or its captions are wrong."""
    check_folders(paths)
    if all(map(emoji.is_set, paths)):
        return Survey(sum(map(_records, paths)), EMOJI_SIDE)
    paths = [cifar.find(paths[0])]
    if cifar.is_binary(paths[0]) or cifar.is_packed(paths[0]):
        return Survey(50_000, 32)
    images = find_labels(paths[0]).images
    sides = list(islice(_sides(images), LOOKED_AT))
    return Survey(len(images), statistics.median_low(sides) if sides else None)


def _records(folder: Path) -> int:
    """Of an emoji set; none where the folder has words."""
    listing = folder / "captions.jsonl"
    return len(listing.read_bytes().splitlines()) if listing.is_file() else 0


def _sides(images: Iterable[Entry]) -> Iterator[int]:
    for entry in images:
        if entry.row is None:
            try:
                with Image.open(entry.path) as image:
                    yield max(image.size)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                continue
