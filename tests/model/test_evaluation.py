"""The figures: they must say what they claim, or a bad checkpoint would ship."""

from pathlib import Path

import numpy as np
import pytest

from model.data.emoji import read_pictures, read_records
from model.evaluation.report import Share
from model.evaluation.retrieval import Gallery, thumbnail
from model.evaluation.sampling import choose_records
from tests.emoji_sets import make_set

NAMES = {"1f34e": "red apple", "1f680": "rocket", "1f436": "dog face", "1f419": "octopus"}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [make_set(tmp_path / "noto", "noto", NAMES)]


def test_a_real_picture_finds_itself_and_no_other(folders: list[Path]) -> None:
    records = read_records(folders)
    gallery = Gallery(records)
    for record, picture in zip(records, read_pictures(records), strict=True):
        finds = [gallery.finds(thumbnail(picture), other, "noto") for other in records]
        assert finds == [other is record for other in records]


def test_pictures_that_look_alike_count_as_one(tmp_path: Path) -> None:
    """Nobody could draw the difference, so nobody is asked to."""
    records = read_records([make_set(tmp_path / "noto", "noto", NAMES)])
    gallery = Gallery(records)
    gallery._pixels[1] = gallery._pixels[0] + 0.001
    assert gallery.finds(gallery._pixels[1], records[0], "noto")
    assert not gallery.finds(gallery._pixels[2], records[0], "noto")


def test_the_ceiling_leaves_out_pictures_that_look_alike(folders: list[Path]) -> None:
    gallery = Gallery(read_records(folders))
    assert gallery.ceiling("noto") == Share(4, 4)
    gallery._pixels[1] = gallery._pixels[0]
    gallery._squares = np.square(gallery._pixels).sum(1)
    assert gallery.ceiling("noto") == Share(2, 4)


def test_the_interval_is_wilsons() -> None:
    low, high = Share(95, 100).interval
    assert (round(low, 4), round(high, 4)) == (0.8882, 0.9785)
    assert Share(0, 10).interval[0] == 0


def test_the_choice_is_uniform_over_symbols_and_always_the_same(folders: list[Path]) -> None:
    records = read_records(folders)
    assert choose_records(records, 3) == choose_records(records, 3)
    assert len({record.base for record in choose_records(records, 100)}) == 4
