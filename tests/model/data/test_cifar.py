"""CIFAR-10 in both of its layouts."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data import cifar, load
from model.data.pictures import DataError, PictureFormat

FORM = PictureFormat(32, 3)


def test_official_binary_records(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    records = draw.integers(0, 256, (6, cifar.RECORD), dtype=np.uint8)
    records[:, 0] = [0, 9, 3, 3, 1, 0]
    records[:4].tofile(tmp_path / "data_batch_1.bin")
    records[4:].tofile(tmp_path / "data_batch_2.bin")
    data = load([tmp_path], FORM)
    assert list(data.captions) == ["airplane", "truck", "cat", "cat", "automobile", "airplane"]
    assert data.pictures[1, 2, 0, 5] == records[1, 1 + 2 * 1024 + 5]  # blue, row 0, column 5
    assert sorted(map(sorted, data.groups)) == [[0, 5], [1], [2, 3], [4]]


def test_a_cut_batch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(b"\0" * 5000)
    with pytest.raises(DataError, match="no multiple of 3073 bytes"):
        cifar.load(tmp_path, FORM)


def test_packed_jpeg(tmp_path: Path) -> None:
    parts = []
    for colour in ("red", "blue"):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(file, "JPEG")
        parts.append(file.getvalue())
    np.savez(
        tmp_path / "train.npz",
        jpeg=np.frombuffer(b"".join(parts), np.uint8),
        offsets=np.cumsum([0, *map(len, parts)]),
        labels=np.array([8, 0]),
    )
    data = load([tmp_path], FORM)
    assert list(data.captions) == ["ship", "airplane"]
    assert data.pictures[1, :, 4, 4].argmax() == 2


def test_the_real_set(shared_data: Path) -> None:
    data = cifar.load(shared_data / "cifar10", PictureFormat(8, 3), "test")
    assert len(data) == 10_000
    assert {len(group) for group in data.groups} == {1000}


def test_what_is_not_the_binary_form_is_said(tmp_path: Path) -> None:
    """The folder of the archive is found, pickles are named, and so is a label beyond the ten."""
    batches = tmp_path / "cifar-10-batches-bin"
    batches.mkdir()
    record = np.zeros((2, 3073), np.uint8)
    record.tofile(batches / "data_batch_1.bin")
    assert list(load([tmp_path], PictureFormat(32, 3)).captions) == ["airplane"] * 2
    record[1, 0] = 10
    record.tofile(batches / "data_batch_1.bin")
    with pytest.raises(DataError, match=r"data_batch_1\.bin: has the label 10, expected 0 to 9"):
        load([tmp_path], PictureFormat(32, 3))
    (python := tmp_path / "python" / "cifar-10-batches-py").mkdir(parents=True)
    (python / "data_batch_1").touch()
    for folder in (python, python.parent):
        with pytest.raises(DataError, match=r"batches-py: .* get its binary form"):
            load([folder], PictureFormat(32, 3))
