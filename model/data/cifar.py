"""CIFAR-10 (Krizhevsky 2009): the official binary batches, or JPEG files packed in ``.npz``."""

from __future__ import annotations

import io
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.pictures import Caption, DataError, PictureFormat, PictureSet

LABELS = (  # in label order
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes
Split = Literal["train", "test"]


BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"


def find(folder: Path) -> Path:
    """Where the batches lie: in the folder, or in the one that the archive has in it.

    Raises `DataError` for the form that is made of pickles.
    """
    if (folder / BINARY).is_dir() and not is_binary(folder):
        return folder / BINARY
    for place in (folder, folder / PYTHON):
        if (place / "batches.meta").is_file() or (place / "data_batch_1").is_file():
            raise DataError(
                f"{place}: CIFAR-10's Python form is made of pickles, which are never opened; "
                "get its binary form (cifar-10-binary.tar.gz)"
            )
    return folder


def is_binary(folder: Path) -> bool:
    return (folder / "data_batch_1.bin").is_file()


def is_packed(folder: Path) -> bool:
    return (folder / "train.npz").is_file()


def load(folder: Path, form: PictureFormat, split: Split = "train") -> PictureSet:
    """All images of a split, in the order of the files. Raises `DataError`."""
    images, labels = (_read_binary if is_binary(folder) else _read_packed)(folder, split)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        groups[int(label)].append(index)
    names = [LABELS[int(label)] for label in labels]
    return PictureSet(
        name=f"cifar10-{split}",
        pictures=np.stack([form.pixels(Image.fromarray(image)) for image in images]),
        captions=names,
        prompters=[Caption(name) for name in names],
        groups=list(groups.values()),
    )


def _read_binary(folder: Path, split: Split) -> tuple[list[NDArray[np.uint8]], NDArray[np.uint8]]:
    """``data_batch_*.bin`` / ``test_batch.bin``: records of a label and three 32 × 32 planes."""
    pattern = "data_batch_*.bin" if split == "train" else "test_batch.bin"
    files = sorted(folder.glob(pattern))
    if not files:
        raise DataError(f"{folder}: no {pattern}")
    for path in files:
        if path.stat().st_size % RECORD:
            raise DataError(f"{path}: its size is no multiple of {RECORD} bytes, so it is cut off")
    records = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, RECORD) for path in files])
    planes = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return list(planes), _checked(records[:, 0], files[0])


L = TypeVar("L", NDArray[np.uint8], NDArray[np.int64])


def _checked(labels: L, path: Path) -> L:
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(LABELS):
        wrong = next(label for label in labels if not 0 <= label < len(LABELS))
        raise DataError(f"{path}: has the label {wrong}, expected 0 to {len(LABELS) - 1}")
    return labels


def _read_packed(folder: Path, split: Split) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """``train.npz`` / ``test.npz``: ``jpeg`` bytes end to end, ``offsets`` [N + 1], ``labels``."""
    path = folder / f"{split}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            data, offsets = arrays["jpeg"].tobytes(), arrays["offsets"]
            labels: NDArray[np.int64] = arrays["labels"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: {error}; expected arrays jpeg, offsets and labels") from error
    labels = _checked(labels, path)
    images = [
        np.asarray(Image.open(io.BytesIO(data[begin:end])).convert("RGB"))
        for begin, end in pairwise(offsets)
    ]
    return images, labels
