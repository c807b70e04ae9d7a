"""What a run is like where its options do not say."""

from __future__ import annotations

import pytest

from model.training.choices import OLDER, UNLIMITED, Choices, Facts, Shape, choose

FORTY = Facts(images=40, side=200, cores=2)
GPU = Facts(images=40_000, side=1024, cores=16, gpu=78.0)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (FORTY, Choices(64, 8, 128, 4, 16, UNLIMITED, 10, compiled=False)),
        (Facts(40, 28, 2), Choices(32, 4, 128, 4, 16, UNLIMITED, 10, compiled=False)),
        (Facts(40, 4, 2), Choices(32, 4, 128, 4, 16, UNLIMITED, 10, compiled=False)),
        (Facts(40, None, 2), Choices(64, 8, 128, 4, 16, UNLIMITED, 10, compiled=False)),
        (Facts(1_000, 4000, 2), Choices(64, 8, 192, 6, 16, UNLIMITED, 60, compiled=True)),
        (Facts(50_000, 32, 2), Choices(32, 4, 256, 8, 32, UNLIMITED, 240, compiled=True)),
        (Facts(40, 200, 2, processes=3), Choices(64, 8, 128, 4, 18, UNLIMITED, 10, compiled=False)),
        (GPU, Choices(128, 16, 320, 8, 256, UNLIMITED, 60, compiled=True)),
        (Facts(40, 200, 4, gpu=4.0), Choices(128, 16, 256, 8, 32, UNLIMITED, 5, compiled=True)),
    ],
)
def test_a_run_suits_its_images_and_its_machine(facts: Facts, expected: Choices) -> None:
    assert choose(Choices(), facts) == expected


def test_what_is_given_stands() -> None:
    given = Choices(96, 4, 100, 2, 7, 50, 3.0, True, 10, 20)
    assert choose(given, FORTY) == given


def test_a_short_time_gets_a_small_network_on_a_cpu() -> None:
    many = Facts(images=50_000, side=32, cores=2)
    assert choose(Choices(minutes=10), many).width == 128
    assert choose(Choices(minutes=600), many).width == 256
    assert choose(Choices(minutes=10), Facts(50_000, 32, cores=32)).width == 256


def test_steps_alone_are_no_budget() -> None:
    chosen = choose(Choices(steps=300), FORTY)
    assert (chosen.steps, chosen.minutes) == (300, None)


def test_a_network_that_begins_with_another_has_its_shape() -> None:
    chosen = choose(Choices(size=128), FORTY, Shape(size=64, patch=8, width=256, depth=8))
    assert (chosen.size, chosen.patch, chosen.width, chosen.depth) == (128, 16, 256, 8)
    assert choose(Choices(), GPU, Shape(64, 8, 256, 8)).size == 64


def test_a_run_that_goes_on_keeps_what_was_chosen() -> None:
    before = choose(Choices(), FORTY)
    assert Choices().on(before) == before
    assert Choices(minutes=20).on(before).minutes == 20
    assert Choices(steps=500).on(before).minutes is None
    assert Choices(minutes=20).on(OLDER).steps is None
    assert Choices().on(OLDER).steps == 20_000
