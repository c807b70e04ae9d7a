"""The recommendation: fast enough under load, no larger than needed for one image."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model.loading import load_model
from model.registry import open_checkpoint
from model.runtime.benchmark import TileSpeed, measure, recommend
from tests.tiny import tiny_flow, tiny_gan


def test_the_smallest_tile_near_the_best_is_recommended() -> None:
    speeds = [TileSpeed(2, 0.010), TileSpeed(4, 0.0130), TileSpeed(8, 0.023), TileSpeed(16, 0.045)]
    assert [round(speed.evaluations_per_second) for speed in speeds] == [200, 308, 348, 356]
    assert recommend(speeds).tile == 8  # 308 is under 90 % of 356


def test_what_a_picture_costs() -> None:
    speed = TileSpeed(8, 0.05)
    assert speed.image_seconds(20) == 1.0
    assert speed.images_per_second(20) == 4.0  # four guided rows fill the tile
    assert TileSpeed(8, 0.05, cost=1).images_per_second(1) == 160.0


@pytest.mark.parametrize(("make", "cost"), [(tiny_flow, 2), (tiny_gan, 1)])
def test_full_passes_are_timed_whatever_a_picture_takes(
    make: Callable[[Path], Path], cost: int, tmp_path: Path
) -> None:
    """A model of one step draws in its first pass; there is no second one to time."""
    model = load_model(open_checkpoint(make(tmp_path)), device="cpu", dtype="fp32", tile=4)
    speed = measure(model, seconds=0.01)
    assert (speed.tile, speed.cost) == (4, cost)
    assert speed.step_seconds > 0
