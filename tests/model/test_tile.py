"""The recommendation: fast enough under load, no larger than needed for one picture."""

from model.tile import TileSpeed, recommend


def test_the_smallest_tile_near_the_best_is_recommended() -> None:
    speeds = [TileSpeed(2, 0.010), TileSpeed(4, 0.0130), TileSpeed(8, 0.023), TileSpeed(16, 0.045)]
    assert [round(speed.evaluations_per_second) for speed in speeds] == [200, 308, 348, 356]
    assert recommend(speeds).tile == 8  # 308 is under 90 % of 356


def test_what_a_picture_costs() -> None:
    speed = TileSpeed(8, 0.05)
    assert speed.image_seconds(20) == 1.0
    assert speed.images_per_second(20) == 4.0  # four guided rows fill the tile
