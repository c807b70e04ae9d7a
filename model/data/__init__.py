"""Sets of captioned images. Needs no model; imports torch for tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model.data import cifar, emoji, folder
from model.data.labels import check_folders
from model.data.pictures import DataError, PictureFormat, PictureSet
from model.data.reading import Report, silent


def load(
    paths: Sequence[Path],
    form: PictureFormat,
    cache: Path | None = None,
    report: Report = silent,
) -> PictureSet:
    """The training side of a data set.

    Several paths must all be emoji sets. With ``cache``, a folder, the resized images are kept in
    it, and taken from there. Raises `DataError` naming the path and what was expected.
    """
    check_folders(paths)
    if all(map(emoji.is_set, paths)):
        return emoji.load(paths, form, cache=cache, report=report)
    if len(paths) > 1:
        raise DataError(
            "several folders are taken together only if each is an emoji set "
            "(images.zip and captions.jsonl, or words.jsonl.gz)"
        )
    paths = [cifar.find(paths[0])]
    if cifar.is_binary(paths[0]) or cifar.is_packed(paths[0]):
        return cifar.load(paths[0], form)
    return folder.load(paths[0], form, cache, report)
