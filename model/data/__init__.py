"""Sets of captioned images. Needs no model; imports torch for tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model.data import cifar, emoji, folder
from model.data.pictures import DataError, PictureFormat, PictureSet


def load(paths: Sequence[Path], form: PictureFormat) -> PictureSet:
    """The training side of a data set.

    Several paths must all be emoji sets. Raises `DataError` naming the path and what was expected.
    """
    for path in paths:
        if not path.is_dir():
            raise DataError(f"{path}: no such folder")
    if all(map(emoji.is_set, paths)):
        return emoji.load(paths, form)
    if len(paths) > 1:
        raise DataError(
            "several folders are taken together only if each is an emoji set "
            "(images.zip and captions.jsonl, or words.jsonl.gz)"
        )
    if cifar.is_binary(paths[0]) or cifar.is_packed(paths[0]):
        return cifar.load(paths[0], form)
    return folder.load(paths[0], form)
