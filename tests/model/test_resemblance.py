"""Figures over sets of pictures: they must fall where pictures are worse, or fewer kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.emoji import read_records
from model.evaluation.assessment import Assessment, figure_tables
from model.evaluation.metrics import (
    Encoder,
    among,
    kernel_distance,
    load_encoder,
    similarity,
    spread,
)
from model.evaluation.resemblance import NO_PROMPT
from model.evaluation.retrieval import Gallery
from model.evaluation.sampling import Sampler
from model.loading import load_model
from model.registry import open_checkpoint
from model.request import Picture
from tests.emoji_sets import MANY, make_set
from tests.tiny import tiny_flow, tiny_gan, tiny_gpt

pytestmark = pytest.mark.usefixtures("measured_briefly")

DICE = np.random.default_rng(0)
NORMAL = DICE.normal(size=(3, 200, 8))  # three samples of one distribution


def test_coverage_falls_where_kinds_are_missing_and_density_does_not() -> None:
    """What collapses draws a few good pictures, again and again."""
    real, drawn, _ = NORMAL
    whole = spread(real, drawn)
    assert whole.coverage > 0.9
    assert whole.density == pytest.approx(1, abs=0.15)
    nearest_to_the_middle = np.square(drawn).sum(1).argsort()[:3]
    collapsed = spread(real, drawn[np.resize(nearest_to_the_middle, 200)])
    assert collapsed.coverage < 0.4
    assert collapsed.density > 1


def test_both_fall_where_pictures_are_unlike_real_ones() -> None:
    real, drawn, _ = NORMAL
    far = spread(real, drawn + 5)
    assert (far.density, far.coverage) == (0, 0)


def test_density_and_coverage_are_those_of_the_paper() -> None:
    """By hand: real ones at 0, 1, … 7 reach as far as their fifth neighbour."""
    real = np.arange(8.0)[:, None]
    drawn = np.array([[0.4], [9.5]])
    # Reaches are 5, 4, 3, 3, 3, 3, 4, 5. The first is within those of 0, 1, 2 and 3, and the
    # second within those of 6 and 7.
    found = spread(real, drawn)
    assert found.density == (4 + 2) / (5 * 2)
    assert found.coverage == 6 / 8
    with pytest.raises(ValueError, match="5 real images have no 5 neighbours"):
        spread(real[:5], drawn)


def test_kid_is_about_nothing_between_samples_of_one_distribution() -> None:
    real, drawn, other = NORMAL
    same, moved_away = kernel_distance(real, drawn), kernel_distance(real, other + 0.5)
    assert abs(same) < 0.05
    assert moved_away > 0.2
    with pytest.raises(ValueError, match="200 real and 9 drawn"):
        kernel_distance(real, drawn[:9])


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_equal_pictures_are_wholly_similar(side: int) -> None:
    pictures = list(DICE.random((5, side, side, 3)))
    assert similarity([(one, one) for one in pictures]) == pytest.approx(1, abs=1e-4)
    assert among(pictures) < 0.2
    assert among([pictures[0]] * 5) == pytest.approx(1, abs=1e-4)


def test_a_picture_has_the_same_features_beside_any_others() -> None:
    torch.manual_seed(0)
    encoder = Encoder().eval()
    pictures = [Picture(20, 20, 4, DICE.bytes(1600)) for _ in range(3)]
    features = encoder.features(pictures)
    assert features.shape == (3, 128)
    np.testing.assert_allclose(encoder.features(pictures[1:2])[0], features[1], atol=1e-5)
    np.testing.assert_allclose(np.square(features).sum(1), 128, rtol=1e-5)


def test_the_neighbour_is_another_symbol_of_the_same_style(tmp_path: Path) -> None:
    """Skin tones of one symbol are alike without being mistaken for one another."""
    names = {"1f44d": "thumbs", "1f44d_1f3fb": "light thumbs", "1f34e": "apple"}
    records = read_records([make_set(tmp_path / style, style, names) for style in ("noto", "x")])
    gallery = Gallery(records)
    for record in records[:2]:
        neighbour = gallery.neighbour(record)
        assert (neighbour.style, neighbour.name) == ("noto", "apple")


def assessment_of(folder: Path, sets: list[Path], count: int) -> Assessment:
    checkpoint = open_checkpoint(folder)
    model, served = (
        load_model(checkpoint, device="cpu", dtype="fp32", tile=tile) for tile in (32, None)
    )
    return Assessment(Sampler(model), served, sets, load_encoder(), count=count)


@pytest.mark.parametrize("make", [tiny_flow, tiny_gpt, tiny_gan])
def test_every_family_is_assessed_twice_with_the_same_figures(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    tiny = make(tmp_path / "tiny")
    folders = [make_set(tmp_path / "noto", "noto", MANY)]
    written = []
    for name in ("one", "two"):
        steps: list[int] = []
        assessment = assessment_of(tiny, folders, 16)
        lines = list(assessment.run(steps.append))
        assert lines == [*assessment.lines, *assessment.sets]
        assert sum(steps) == assessment.steps
        report = assessment.report()
        report.write(tmp_path / name)
        assert report.figures.pop("speed")["images_per_second"] > 0
        written.append(report.figures)
    assert written[0] == written[1]
    sets = {line.pictures: line for line in assessment.sets}
    assert set(sets) == {"noto", NO_PROMPT}
    assert (sets["noto"].of, sets[NO_PROMPT].of) == (16, 8)
    assert sets["noto"].real.coverage > sets["noto"].drawn.coverage  # it draws noise
    assert sets["noto"].drawn.seeds is not None
    assert sets[NO_PROMPT].drawn.to_own is None
    text = (tmp_path / "two" / "report.md").read_text(encoding="utf-8")
    tables = figure_tables({"tiny": assessment})
    assert tables in text
    assert "| noto, 16 pictures | better | tiny | real |" in tables
    assert "| without a prompt, 8 pictures | better | tiny | real |" in tables
    assert "| retrieval | high |" in tables
    assert (tmp_path / "two" / "samples.png").stat().st_size > 500


def test_sets_too_small_to_compare_are_left_out(tmp_path: Path) -> None:
    few = dict(list(MANY.items())[:4])
    assessment = assessment_of(
        tiny_gan(tmp_path / "tiny"), [make_set(tmp_path / "noto", "noto", few)], 8
    )
    list(assessment.run())
    assert assessment.sets == []
    assert len(assessment.lines) > 0
    assert "density" not in assessment.report().text
