"""The emoji sets, above all that what is held out stays out."""

import random
from pathlib import Path

import pytest

from model.data import emoji, load
from model.data.pictures import DataError, PictureFormat
from tests.emoji_sets import make_set

FOLDERS = ("emoji_noto", "emoji_fluent3d")


def test_pictures_captions_and_groups(tmp_path: Path) -> None:
    folder = make_set(
        tmp_path / "noto", "noto", {"1f34e": "red apple", "1f44d": "thumbs", "1f44d_1f3fb": "light"}
    )
    data = load([folder], PictureFormat(16))
    assert list(data.captions) == [
        "red apple, noto style",
        "thumbs, noto style",
        "light, noto style",
    ]
    assert [list(group) for group in data.groups] == [[0], [1, 2]]
    assert data.pictures[1, 0, 3, 3] == 90


def test_prompts_name_the_symbol_in_many_ways(tmp_path: Path) -> None:
    make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    [record] = emoji.read_records([tmp_path / "noto"])
    draw = random.Random(0)
    prompts = {record.prompt(draw) for _ in range(400)}
    assert {
        "red apple, noto style",
        "a red apple, noto style",
        "red apple",
        "apple, red, noto style",
        "红苹果，noto 风格",
        "红苹果",
    } <= prompts


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    (folder / "captions.jsonl").unlink()
    with pytest.raises(DataError, match=r"captions\.jsonl: missing; an emoji set has both"):
        load([folder], PictureFormat(16))


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    (folder / "images.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"images\.zip: 1f34e\.webp"):
        load([folder], PictureFormat(16))


def test_what_is_held_out_never_trains(shared_data: Path) -> None:
    records = emoji.read_records([shared_data / name for name in FOLDERS])
    sides = {
        split: emoji.select(records, split)
        for split in ("train", "held-out style", "held-out tone")
    }
    assert sum(map(len, sides.values())) == len(records)
    style = {record.base for record in sides["held-out style"]}
    assert all(record.style == "fluent 3d" for record in sides["held-out style"])
    trained = {record.base for record in sides["train"] if record.style == "fluent 3d"}
    assert not style & trained
    own = {(record.style, record.codepoints) for record in sides["train"]}
    assert not own & {(record.style, record.codepoints) for record in sides["held-out tone"]}
    twins = [r for r in sides["train"] if r.style == "noto" and r.base in style]
    assert twins  # the other style is what makes the held-out figure meaningful


def test_equal_pictures_are_on_one_side(shared_data: Path) -> None:
    """Else a held-out image would have been seen under another name."""
    records = emoji.read_records([shared_data / name for name in FOLDERS])
    side = {
        (record.style, record.file): split
        for split in ("train", "held-out style", "held-out tone")
        for record in emoji.select(records, split)
    }
    copies = [record for record in records if record.duplicate_of]
    assert copies
    for record in copies:
        assert record.duplicate_of is not None
        assert side[record.style, record.file] == side[record.style, record.duplicate_of]


def test_every_picture_has_a_chinese_name(shared_data: Path) -> None:
    records = emoji.read_records([shared_data / name for name in FOLDERS])
    assert sum(record.chinese is None for record in records) / len(records) < 0.05
