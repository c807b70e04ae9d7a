"""If these fail, a model is asked for sizes that it does not draw, or for worse than it can."""

from __future__ import annotations

from math import log, sqrt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.request import InvalidField
from model.sizes import Sizes, aspect_of
from model.spec import ModelSpec, Parameter

SQUARE = Sizes(64, 48, others=((48, 64), (96, 32)))
FREE = Sizes(1024, 1024, multiple=16, low=256, high=2048, pixels=2 * 1024 * 1024)
TIGHT = Sizes(1024, 1024, multiple=16, low=256, high=2048, pixels=1024 * 1024)
COARSE = Sizes(96, 64, multiple=8, low=32, high=128, pixels=128 * 128)
LISTED = Sizes(1328, 1328, others=((1664, 928),), multiple=32, low=512, high=1600, pixels=1328**2)

PIXELS = st.integers(1, 9000)


@pytest.mark.parametrize(
    ("sizes", "picture", "drawn"),
    [
        (FREE, (1024, 1024), (1024, 1024)),
        (FREE, (31, 31), (1024, 1024)),
        (FREE, (6000, 4000), (1248, 832)),
        (FREE, (4000, 6000), (832, 1248)),
        (FREE, (1920, 1080), (1360, 768)),
        (FREE, (2000, 500), (2048, 512)),
        (FREE, (1600, 200), (2048, 256)),  # as long as it may be
        (FREE, (200, 1600), (256, 2048)),
        (FREE, (1640, 200), (2048, 256)),  # a little beyond that
        (TIGHT, (1000, 999), (1024, 1024)),
        (TIGHT, (1920, 1080), (1360, 768)),
        (COARSE, (96, 64), (96, 64)),
        (COARSE, (100, 90), (80, 72)),
        (COARSE, (7, 5), (88, 64)),
        (LISTED, (1664, 928), (1664, 928)),  # no multiples, but named
        (LISTED, (1328, 1328), (1328, 1328)),
        (LISTED, (16, 9), (1600, 896)),  # nearer than those that are
        # Where there are no multiples, something lies around.
        (SQUARE, (64, 48), (64, 48)),
        (SQUARE, (1, 1), (64, 48)),
        (SQUARE, (30, 60), (48, 64)),
        (SQUARE, (9000, 1), (96, 32)),
        (Sizes(64, 64), (9000, 1), (64, 64)),
    ],
)
def test_the_nearest_size(sizes: Sizes, picture: tuple[int, int], drawn: tuple[int, int]) -> None:
    assert sizes.nearest(*picture) == drawn


@given(PIXELS, PIXELS, st.sampled_from([FREE, TIGHT, COARSE, LISTED]))
@example(33, 39, COARSE)
def test_it_is_drawn_and_has_nearly_the_aspect_and_the_native_pixels(
    width: int, height: int, sizes: Sizes
) -> None:
    try:
        drawn = sizes.nearest(width, height)
    except InvalidField:
        assert max(width, height) / min(width, height) > sizes.widest
        return
    assert sizes.allow(*drawn)
    aspect = drawn[0] / drawn[1]
    # Half a multiple of the longer side, or just beyond the widest.
    bound = max(sizes.multiple / 2 / max(drawn), 0.05)
    assert abs(log(aspect * height / width)) <= bound
    # No side is more than a multiple longer than the native number of pixels makes it.
    ideal = sqrt(sizes.width * sizes.height / aspect_of(width, height))
    short, long = sorted(drawn)
    assert short < max(ideal, sizes.low) + sizes.multiple
    assert long < short * aspect_of(width, height) + sizes.multiple
    assert sizes.nearest(height, width) == drawn[::-1] or sizes in (COARSE, LISTED)


@pytest.mark.parametrize("picture", [(3000, 300), (300, 3000), (9000, 1)])
def test_an_aspect_that_is_not_drawn_is_refused_with_what_is(picture: tuple[int, int]) -> None:
    with pytest.raises(InvalidField) as refused:
        FREE.nearest(*picture)
    assert refused.value.field == "image"
    assert str(refused.value) == (
        f"has {picture[0]} x {picture[1]} pixels; at most 8 times as long as wide can be drawn "
        "(1024x1024, or multiples of 16 from 256 to 2048 with at most 2097152 pixels)"
    )


def test_a_budget_bounds_the_aspect_too() -> None:
    assert TIGHT.widest == 8
    assert Sizes(512, 512, multiple=64, low=256, high=2048, pixels=512 * 512).widest == 4


@pytest.mark.parametrize(
    ("sizes", "longest", "most"),
    [
        (SQUARE, 96, 64 * 48),
        (FREE, 2048, 2 * 1024 * 1024),
        (LISTED, 1664, 1328**2),
    ],
)
def test_the_largest(sizes: Sizes, longest: int, most: int) -> None:
    assert (sizes.longest, sizes.most) == (longest, most)


@pytest.mark.parametrize(
    ("sizes", "answer", "drawn"),
    [
        (SQUARE, (48, 64), (48, 64)),
        (SQUARE, (128, 96), (64, 48)),  # resampled
        (SQUARE, (128, 128), None),
        (FREE, (1536, 640), (1536, 640)),
        (FREE, (512, 512), (512, 512)),
        (FREE, (1000, 1000), None),  # nothing is resampled
        (FREE, (128, 128), None),
        (FREE, (2048, 2048), None),
    ],
)
def test_what_is_drawn_for_an_answer(
    sizes: Sizes, answer: tuple[int, int], drawn: tuple[int, int] | None
) -> None:
    assert sizes.drawn(*answer) == drawn


SPEC = ModelSpec(
    id="paper",
    family="paper",
    sizes=FREE,
    channels=3,
    parameters=(
        Parameter("steps", 4, 4, 4, 1, "Fixed."),
        Parameter("strength", 0, 1, 1, 0.1, "Strength.", ("vary", "inpaint")),
        Parameter("lora_scale", 0, 2, 1, 0.1, "Of the adapter."),
        Parameter("noise", 0, 1, None, 0.1, "Noise.", ("denoise",)),
    ),
    operations=("generate", "vary"),
    max_prompt_tokens=8,
    digest="0" * 64,
    license="none",
    description="",
    loras=("ink",),
)


def test_parameters_have_the_operations_of_their_model() -> None:
    assert {one.name: one.operations for one in SPEC.own_parameters} == {
        "steps": ("generate", "vary"),
        "strength": ("vary",),
        "lora_scale": ("generate", "vary"),
    }
    with pytest.raises(InvalidField, match=r"means nothing to generate, only to vary$"):
        SPEC.request(strength=0.5)
    with pytest.raises(InvalidField, match="means nothing to paper, which takes steps, lora_scale"):
        SPEC.request(noise=0.5)


def test_the_scale_of_no_adapter_makes_no_difference() -> None:
    assert SPEC.request(lora_scale=0.5) == SPEC.request()
    assert dict(SPEC.request(lora="ink").parameters) == {"steps": 4, "lora_scale": 1}
    assert SPEC.request(lora="ink", lora_scale=0.5) != SPEC.request(lora="ink")
    with pytest.raises(InvalidField, match="3 was given, 0 to 2 is accepted"):
        SPEC.request(lora_scale=3)
