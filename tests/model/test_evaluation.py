"""The figures: they must say what they claim, or a bad checkpoint would ship."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.data.emoji import read_pictures, read_records
from model.data.pictures import PictureFormat
from model.evaluation.report import Share
from model.evaluation.retrieval import Gallery, thumbnail
from model.evaluation.sampling import Sampler, choose_records, from_premultiplied, natives
from model.loading import load_model
from model.registry import open_checkpoint
from model.training.sheet import to_image
from tests.emoji_sets import MANY, make_set
from tests.tiny import tiny_flow

STYLES = ("noto", "twemoji")
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


def test_the_twins_of_an_image_are_those_that_training_saw_in_other_styles(tmp_path: Path) -> None:
    """A figure of what is held out says little without: styles draw a symbol in different ways."""
    records = read_records([make_set(tmp_path / style, style, MANY) for style in STYLES])
    of_style = {style: [r for r in records if r.style == style] for style in STYLES}
    gallery = Gallery(records)
    found = [gallery.twins_find(record) for record in of_style["noto"]]
    seen = [record.split == "train" for record in of_style["twemoji"]]
    assert found == [True if each else None for each in seen]  # the sets draw alike
    assert 0 < sum(seen) < len(seen)

    first = seen.index(True)
    other = gallery.true(of_style["twemoji"][first - 1])
    gallery._pixels[records.index(of_style["twemoji"][first])] = other
    assert gallery.twins_find(of_style["noto"][first]) is False


def test_a_ranking_is_of_different_symbols(folders: list[Path]) -> None:
    """A symbol in six skin tones would otherwise fill the first places alone."""
    first, second, third, fourth = read_records(folders)
    toned = replace(second, base=first.base, codepoints="toned", tones=("dark",))
    gallery = Gallery([first, toned, third, fourth])
    for record in (first, toned, third, fourth):
        ranking = gallery.ranking(gallery.true(record), "noto", 3)
        assert ranking[0] is record
        assert len({found.base for found in ranking}) == 3
    assert len(gallery.ranking(gallery.true(first), "noto", 9)) == 3
    assert gallery.ranking(gallery.true(first), "blob", 9) == []
    assert gallery.shows(toned, first)
    assert not gallery.shows(third, first)
    gallery._pixels[2] = gallery._pixels[0] + 0.001
    assert gallery.shows(third, first)  # nobody could draw the difference


def test_the_interval_is_wilsons() -> None:
    low, high = Share(95, 100).interval
    assert (round(low, 4), round(high, 4)) == (0.8882, 0.9785)
    assert Share(0, 10).interval[0] == 0


def test_the_choice_is_uniform_over_symbols_and_always_the_same(folders: list[Path]) -> None:
    records = read_records(folders)
    assert choose_records(records, 3) == choose_records(records, 3)
    assert len({record.base for record in choose_records(records, 100)}) == 4


def test_each_operation_is_measured_with_its_own_steps(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_flow(tmp_path))
    model = load_model(checkpoint, device="cpu", dtype="fp32")
    steps, *others = model.spec.parameters
    steps = replace(steps, defaults={"upscale": 6})
    model.spec = replace(model.spec, parameters=(steps, *others))
    sampler = Sampler(model)
    assert str(sampler).startswith("4 steps, guidance 2")
    assert (sampler.steps, sampler.as_json()["steps"]) == (4, 4)
    assert sampler.request("", operation="upscale").value("steps") == 6
    given = Sampler(model, {"steps": 2})
    assert str(given).startswith("2 steps, guidance 2")
    assert given.request("", operation="upscale").value("steps") == 2


def test_what_is_drawn_is_reduced_as_real_images_are(folders: list[Path], tmp_path: Path) -> None:
    model = load_model(open_checkpoint(tiny_flow(tmp_path / "a")), device="cpu", dtype="fp32")
    (whole,) = Sampler(model).draw(["red apple"])
    (small,) = Sampler(model, side=8).draw(["red apple"])
    assert (whole.width, small.width, small.height) == (16, 8, 8)
    form = PictureFormat(8)
    assert small == from_premultiplied(form.pixels(to_image(whole)).transpose(1, 2, 0) / 255)
    records = read_records(folders)
    assert {real.width for real in natives(model.spec, records)} == {16}
    assert {real.width for real in natives(model.spec, records, 8)} == {8}
