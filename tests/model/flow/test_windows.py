"""If these fail, an image in windows has seams, contradicts its upload, or depends on others."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from app.engine.messages import NewRow
from app.engine.runner import Runner
from model.flow.blending import Windows
from model.flow.inpainting import BoundedMeans
from model.flow.sampler import FlowSampler
from model.flow.windows import corners
from model.loading import load_model
from model.registry import open_checkpoint
from model.request import ImageRequest, InvalidField, Picture, Source
from model.runtime.generate import generate
from model.runtime.pixels import to_picture, to_values
from tests.tiny import FLOW_SPEC, Channels, tiny_flow

SIDE = 16
SIZES = [(18, 16), (16, 34), (24, 44), (40, 28)]  # odd ones, and as narrow as a window


def painting(width: int, height: int, channels: int = 4, seed: int = 1) -> Picture:
    """Every colour, and every alpha beside none and all of it."""
    pixels = np.random.default_rng(seed).integers(-60, 316, (height, width, channels))
    return Picture(width, height, channels, pixels.clip(0, 255).astype(np.uint8).tobytes())


def request(
    width: int, height: int, factor: int = 2, prompt: str = "red apple", **given: Any
) -> ImageRequest:
    source = given.pop("source", Source(painting(width // factor, height // factor)))
    given = {"steps": 2, "guidance": 2.0, "seed": 7} | given
    size = (width, height)
    return FLOW_SPEC.request(prompt, operation="upscale", size=size, source=source, **given)


def load(folder: Path, *, channels: Channels = 4, tile: int = 8) -> FlowSampler:
    model = load_model(
        open_checkpoint(tiny_flow(folder, channels=channels)), device="cpu", dtype="fp32", tile=tile
    )
    assert isinstance(model, FlowSampler)
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> FlowSampler:
    return load(tmp_path_factory.mktemp("tiny"))


def blocks(picture: Picture, factor: int) -> NDArray[np.float64]:
    """The mean of each square of pixels, premultiplied, in levels."""
    shape = (picture.height, picture.width, picture.channels)
    values = np.frombuffer(picture.pixels, np.uint8).reshape(shape).astype(np.float64)
    if picture.channels == 4:
        values[..., :3] *= values[..., 3:] / 255
    height, width = picture.height // factor, picture.width // factor
    return values.reshape(height, factor, width, factor, -1).mean((1, 3))


@given(st.integers(1, 40), st.integers(0, 300), st.integers(0, 300))
def test_windows_overlap_and_cover_everything(window: int, across: int, down: int) -> None:
    image = window + across, window + down
    places = corners(image, (window, window))
    assert len(set(places)) == len(places)
    for axis, side in enumerate(image):
        begins = sorted({place[axis] for place in places})
        assert (begins[0], begins[-1]) == (0, side - window)
        gaps = [after - before for before, after in itertools.pairwise(begins)]
        assert max(gaps, default=0) <= window - window // 4


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_mean_of_equal_predictions_is_that_prediction(width: int, height: int) -> None:
    truth = torch.randn(4, height, width, generator=torch.Generator().manual_seed(0))
    windows = Windows((width, height), (SIDE, SIDE), 2)
    for _ in range(2):  # and begins anew
        whole: Tensor | None = None
        for done in range(windows.passes):
            assert windows.passed == done
            for place in windows.next:
                assert whole is None
                whole = windows.add(truth[place])
        torch.testing.assert_close(whole, truth)


def test_a_window_has_no_edge() -> None:
    """One that says something else than all others changes the mean little by little."""
    windows = Windows((160, 64), (64, 64), 1)
    whole: Tensor | None = None
    for index in range(windows.passes):
        whole = windows.add(torch.full((1, 64, 64), float(index == 1)))
    assert whole is not None
    assert float(whole.max()) == 1
    assert float(whole.diff(dim=2).abs().max()) < 0.15


def test_an_image_of_the_models_size_has_one_window_of_its_own_bits() -> None:
    truth = torch.randn(4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    windows = Windows((SIDE, SIDE), (SIDE, SIDE), 2)
    assert windows.passes == 1
    assert windows.add(truth) is truth


@pytest.mark.parametrize(("channels", "factor"), [(3, 2), (4, 2), (4, 4)])
@settings(deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.01, 1.0, 10.0]))
def test_bounded_means_are_those_of_the_rounded_image(
    channels: int, factor: int, seed: int, scale: float
) -> None:
    """However wild a prediction is: what cannot be shown is not clipped off the means."""
    small = painting(8, 6, channels, seed % 99)
    shape = (channels, 6 * factor, 8 * factor)
    predicted = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    part = BoundedMeans(to_values(small), factor)
    once = part.correct(predicted)
    assert float(once.abs().max()) <= 1 + 1e-5
    assert np.abs(blocks(to_picture(once), factor) - blocks(small, 1)).max() <= 1


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("width", "height"), [(20, 16), (16, 36), (44, 28)])
def test_an_upscaled_image_reduces_to_the_small_one(
    model: FlowSampler, width: int, height: int, factor: int
) -> None:
    asked = request(width, height, factor)
    assert asked.source is not None
    (made,) = generate(model, [asked])
    assert (made.width, made.height) == (width, height)
    small = asked.source.picture
    assert np.abs(blocks(made, factor) - blocks(small, 1)).max() <= 1


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_any_other_rows_give_the_same_bytes(model: FlowSampler, width: int, height: int) -> None:
    """Windows share passes with plain images, small ones and the windows of others."""
    mine = request(width, height)
    (alone,) = generate(model, [mine])
    others = [
        request(40, 20, prompt="", solver_order=2),
        request(16, 16, seed=3),
        FLOW_SPEC.request("blue square", 5, steps=7, guidance=3.0, solver_order=2),
    ]
    for order in itertools.islice(itertools.permutations([*others, mine]), 0, None, 5):
        made = list(generate(model, order))
        assert made[order.index(mine)] == alone
    (other,) = generate(model, [replace(mine, seed=8)])
    assert other != alone


def test_a_pass_holds_what_was_said_and_the_row_counts_each(model: FlowSampler) -> None:
    """Two evaluations, however many windows there are: any tile holds them beside other rows."""
    for prompt, order, windows, each in (("red apple", 1, 9, 2), ("", 1, 9, 1), ("", 2, 9, 1)):
        asked = request(40, 40, prompt=prompt, solver_order=order, steps=3)
        row = model.start(asked)
        model.step([row])
        steps, evaluations = [row.step], 0
        while not row.done:
            assert row.evaluations <= model.cost(asked) == 2
            evaluations += sum(done.evaluations for done in model.step([row]))
            steps.append(row.step)
        assert steps == sorted(steps)
        assert steps[-1] == row.steps
        assert all(after - before <= 1 for before, after in itertools.pairwise(steps))
        velocities = 3 if order == 1 else 5  # Heun's last step is Euler's
        first = 2  # of the pass that came with the prompt's
        assert evaluations + first == velocities * windows * each


def test_a_preview_before_the_first_prediction_shows_the_upload(model: FlowSampler) -> None:
    asked = request(40, 40)
    assert asked.source is not None
    row = model.start(asked)
    model.step([row])
    assert np.abs(blocks(model.result(row), 2) - blocks(asked.source.picture, 1)).max() <= 1
    assert model.result(row) != generate_one(model, asked)


def generate_one(model: FlowSampler, asked: ImageRequest) -> Picture:
    (made,) = generate(model, [asked])
    return made


def test_others_join_and_leave_between_windows(tmp_path: Path) -> None:
    """A row of many windows never holds back one that needs a few passes."""
    model = load(tmp_path, tile=4)
    runner = Runner(model, previews=3)
    large = request(96, 96, steps=2)
    plain = FLOW_SPEC.request("blue square", 5, steps=2, guidance=2.0)
    expected = {0: generate_one(model, large), 1: generate_one(model, plain)}
    runner.add(NewRow(0, large, watched=True, seen=0))
    list(runner.admit())
    for _ in range(5):
        runner.step()
    runner.add(NewRow(1, plain, watched=False, seen=0))
    list(runner.admit())
    finished: list[int] = []
    previews = steps = 0
    while runner.running:
        stepped = runner.step()
        steps += 1
        previews += len(stepped.previewed)
        for done in stepped.finished:
            finished.append(done.id)
            assert done.result == expected[done.id]
            if done.id == 1:
                assert steps <= 3
    assert (finished, previews) == ([1, 0], 3)


def test_progress_is_told_in_the_steps_that_were_asked_for(model: FlowSampler) -> None:
    done: list[int] = []
    list(generate(model, [request(40, 40, steps=3), request(16, 16, steps=4)], done.append))
    assert sum(done) == 3 + 4


@pytest.mark.parametrize(
    ("size", "small", "field", "says"),
    [
        ((516, 16), (258, 8), "size", "516x16 was given, accepted: 16x16"),
        ((40, 12), (20, 6), "size", "40x12 was given, accepted: 16x16"),
        ((40, 20), (20, 11), "image", "20x11, upscale takes 20x10 or 10x5"),
        ((42, 20), (10, 5), "image", "10x5, upscale takes 21x10"),
    ],
)
def test_what_cannot_be_upscaled_to_is_refused(
    model: FlowSampler, size: tuple[int, int], small: tuple[int, int], field: str, says: str
) -> None:
    with pytest.raises(InvalidField, match=says) as caught:
        model.start(request(*size, source=Source(painting(*small))))
    assert caught.value.field == field


def test_only_upscaling_draws_larger_images() -> None:
    for operation in ("generate", "vary"):
        with pytest.raises(InvalidField, match="32x32 was given"):
            FLOW_SPEC.request("a", operation=operation, size=(32, 32))


def test_a_checkpoint_of_opaque_images_upscales_too(tmp_path: Path) -> None:
    model = load(tmp_path, channels=3)
    small = painting(20, 9, 3)
    asked = replace(request(40, 20), width=40, height=18, source=Source(small))
    (made,) = generate(model, [asked])
    assert np.abs(blocks(made, 2) - blocks(small, 1)).max() <= 1
