"""Any folder of images, with captions from where `model.data.labels` finds them.

A file that is no usable image costs a line and a count, never the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from model.data import tables
from model.data.labels import NAMED, SUFFIXES, Entry, find_labels
from model.data.pictures import Caption, DataError, PictureFormat, PictureSet
from model.data.reading import (
    Job,
    Pixels,
    Report,
    Unusable,
    file_identity,
    key_of,
    read_all,
    silent,
)
from model.image_files.decode import ImageFileError, decode_own

SMALLEST = 8
"""An image with a side of fewer pixels than this is skipped."""

MOST_PIXELS = 200_000_000
"""An image of more is skipped."""

FINER = 3
"""A JPEG is decoded at so many times the training size at least, then resized by Lanczos."""


def load(
    folder: Path, form: PictureFormat, cache: Path | None = None, report: Report = silent
) -> PictureSet:
    """Images right in the folder, of which nothing is said, have an empty caption.

    Args:
        cache: a folder where the resized images are kept, and taken from.
        report: is called while images are read.

    Raises:
        DataError: there is no usable image, or a line of captions is wrong.
    """
    found = find_labels(folder)
    entries = found.images
    # A table's rows have its identity, and their number follows from their order.
    identities = {path: file_identity(path) for path in {entry.path for entry in entries}}
    key = key_of(form, (identities[entry.path] for entry in entries))
    read = read_all(_jobs(entries, form), len(entries), form, key, cache, report)
    left_out = _explained({str(entries[at]): why for at, why in read.skipped.items()})
    if not read.kept:
        problem = (
            f"{folder}: no usable image ({len(read.skipped)} skipped); expected "
            f"{', '.join(sorted(SUFFIXES))} files, in sub-folders named by what they show or "
            "listed in captions.jsonl, metadata.jsonl or metadata.csv, or parquet files"
        )
        raise DataError("; ".join((problem, *left_out, *found.notes)))
    captions = [entries[position].caption for position in read.kept]
    notes = [*left_out, *found.notes]
    if blank := captions.count(""):
        notes.append(f"{blank} of {len(captions)} images have no caption")
    groups: dict[str, list[int]] = defaultdict(list)
    for index, caption in enumerate(captions):
        groups[caption].append(index)
    # Images of one label are one group; captions of their own make plain sampling.
    return PictureSet(
        name=folder.name,
        pictures=read.pictures,
        captions=captions,
        prompters=[Caption(caption) for caption in captions],
        groups=list(groups.values()),
        skipped=len(read.skipped),
        notes=notes,
    )


def _explained(skipped: dict[str, str]) -> list[str]:
    """A line for each reason."""
    names = defaultdict(list)
    for name, why in skipped.items():
        names[why].append(name)
    return [
        f"{len(those)} left out, as it {why}: {those[0]}"
        if len(those) == 1
        else f"{len(those)} left out, as each {why}: {', '.join(those[:NAMED])}"
        + (" …" if len(those) > NAMED else "")
        for why, those in names.items()
    ]


def _jobs(entries: Sequence[Entry], form: PictureFormat) -> Iterator[Job]:
    for (path, in_table), some in groupby(entries, lambda one: (one.path, one.row is not None)):
        if in_table:
            for _, content in zip(some, tables.read_images(path), strict=True):
                yield partial(_pixels, content, form)
        else:
            for _ in some:
                yield partial(_read, path, form)


def _read(path: Path, form: PictureFormat) -> Pixels:
    if not path.is_file():
        raise Unusable("is not there" if not path.exists() else "is no file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from error
    return _pixels(content, form)


def _pixels(content: bytes, form: PictureFormat) -> Pixels:
    try:
        image = decode_own(content, MOST_PIXELS, FINER * form.size)
    except ImageFileError as error:
        raise Unusable(str(error)) from error
    if min(image.size) < SMALLEST:
        raise Unusable(f"has a side of under {SMALLEST} pixels")
    return form.pixels(image)
