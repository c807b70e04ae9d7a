"""If these fail, an edited image contradicts the image that it was made from."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.flow.inpainting import (
    Alpha,
    Brightness,
    Known,
    Means,
    Pixels,
    brightness,
    noise_deviation,
)
from model.flow.sampler import FlowSampler
from model.loading import load_model
from model.registry import open_checkpoint
from model.request import ImageRequest, InvalidField, Operation, Picture, Source
from model.runtime.generate import generate
from model.runtime.pixels import to_picture, to_values
from tests.tiny import FLOW_SPEC, tiny_flow

SIDE = 16
SHAPE = (4, SIDE, SIDE)


def painting(seed: int, side: int = SIDE) -> Picture:
    """Every colour and every alpha, without structure."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 4), dtype=np.uint8)
    return Picture(side, side, 4, pixels.tobytes())


def lower_half() -> bytes:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[SIDE // 2 :] = 255
    return mask.tobytes()


SOURCES: dict[Operation, Source] = {
    "vary": Source(painting(1)),
    "inpaint": Source(painting(1), mask=lower_half()),
    "upscale": Source(painting(2, SIDE // 4)),
    "colorize": Source(painting(3)),
    "denoise": Source(painting(4)),
}


def request(operation: Operation, seed: int = 7, **changes: object) -> ImageRequest:
    parameters: dict[str, Any] = {"steps": 4, "guidance": 2.0}
    if operation == "vary":
        parameters["strength"] = 0.5
    parameters |= {name: changes.pop(name) for name in ("strength", "noise") if name in changes}
    source = replace(SOURCES[operation], **changes)  # type: ignore[arg-type]
    return FLOW_SPEC.request("red apple", seed, operation=operation, source=source, **parameters)


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlowSampler:
    checkpoint = open_checkpoint(tiny_flow(tmp_path_factory.mktemp("tiny")))
    sampler = load_model(checkpoint, device="cpu", dtype=request.param, tile=8)
    assert isinstance(sampler, FlowSampler)
    return sampler


def draw(model: FlowSampler, *requests: ImageRequest) -> list[Picture]:
    return list(generate(model, requests))


def known(name: str) -> tuple[Known, Tensor]:
    """A known part, and an image that has it."""
    values = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    parts: dict[str, Known] = {
        "pixels": Pixels(values, torch.arange(SIDE).view(1, SIDE, 1).expand(1, SIDE, SIDE) < 5),
        "means": Means(F.avg_pool2d(values, 4), 4),
        "brightness": Brightness(brightness(values[:3]), values[3:]),
        "alpha": Alpha(values[3:]),
    }
    return parts[name], values


@pytest.mark.parametrize("name", ["pixels", "means", "brightness", "alpha"])
@settings(deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_correction_agrees_with_what_is_known_and_adds_nothing_else(name: str, seed: int) -> None:
    part, truth = known(name)
    predicted = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    once = part.correct(predicted)
    torch.testing.assert_close(part.correct(once), once, atol=1e-5, rtol=0)
    torch.testing.assert_close(part.correct(truth), truth, atol=1e-5, rtol=0)
    assert not torch.equal(once, predicted)


@pytest.mark.parametrize("operation", SOURCES)
def test_any_other_rows_give_the_same_bytes(model: FlowSampler, operation: Operation) -> None:
    """Edits share passes with plain images, other edits and previews."""
    mine = request(operation)
    (alone,) = draw(model, mine)
    others = [request(other, seed=3) for other in SOURCES if other != operation]
    plain = FLOW_SPEC.request("blue square", 5, steps=7, guidance=3.0, solver_order=2)
    for order in itertools.islice(itertools.permutations([*others, plain, mine]), 0, None, 181):
        assert draw(model, *order)[order.index(mine)] == alone
    row = model.start(mine)
    while not row.done:
        model.step([row])
        model.result(row)
    assert model.result(row) == alone


@pytest.mark.parametrize("operation", SOURCES)
def test_every_seed_and_every_source_makes_its_own(
    model: FlowSampler, operation: Operation
) -> None:
    other = request(operation, picture=painting(9, SOURCES[operation].picture.width))
    assert len(set(draw(model, request(operation), request(operation, seed=8), other))) == 3


def test_outside_the_mask_every_byte_is_the_uploads(model: FlowSampler) -> None:
    """Colours under a low alpha too, which do not survive premultiplication."""
    row = model.start(request("inpaint"))
    half = len(SOURCES["inpaint"].picture.pixels) // 2
    while not row.done:
        model.step([row])
        made = model.result(row)  # previews too
        assert made.pixels[:half] == SOURCES["inpaint"].picture.pixels[:half]
        assert made.pixels[half:] != SOURCES["inpaint"].picture.pixels[half:]


def test_the_known_part_keeps_to_the_line_of_its_own_noise(model: FlowSampler) -> None:
    """z_t = t·x + (1 − t)·ε at every step: the network sees what it was trained to see."""
    asked = request("inpaint")
    assert asked.source is not None
    values = to_values(asked.source.picture)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(asked.seed))
    row = model.start(asked)
    for step in range(1, 4):
        model.step([row])
        expected = torch.lerp(noise, values, step / 4)[:, : SIDE // 2]
        torch.testing.assert_close(row.trajectory.latent[:, : SIDE // 2], expected)


def test_an_upscaled_picture_reduces_to_the_small_one(model: FlowSampler) -> None:
    row = model.start(request("upscale"))
    while not row.done:
        model.step([row])
    small = to_values(SOURCES["upscale"].picture)
    torch.testing.assert_close(F.avg_pool2d(row.predicted, 4), small, atol=1e-5, rtol=0)


def test_a_coloured_picture_has_the_grey_ones_brightness_and_alpha(model: FlowSampler) -> None:
    row = model.start(request("colorize"))
    while not row.done:
        model.step([row])
    values = to_values(SOURCES["colorize"].picture)
    torch.testing.assert_close(
        brightness(row.predicted[:3]), brightness(values[:3]), atol=1e-5, rtol=0
    )
    assert torch.equal(row.predicted[3:], values[3:])


def test_a_weak_variation_starts_near_the_picture_and_a_full_one_from_noise(
    model: FlowSampler,
) -> None:
    values = to_values(SOURCES["vary"].picture)
    distances = [
        float((model.start(request("vary", strength=s)).trajectory.latent - values).norm())
        for s in (0.01, 0.3, 0.6, 1.0)
    ]
    assert distances == sorted(distances)
    assert distances[0] < 0.05 * distances[-1]
    full = model.start(request("vary", strength=1.0))
    plain = model.start(FLOW_SPEC.request("red apple", 7, steps=4, guidance=2.0))
    torch.testing.assert_close(full.trajectory.latent, plain.trajectory.latent)
    assert full.trajectory.time == 0


@pytest.mark.parametrize("deviation", [0.05, 0.1, 0.2])
def test_noise_is_estimated_where_there_is_colour(deviation: float) -> None:
    """On shapes with edges, with a transparent ground that has no noise."""
    rows, columns = np.mgrid[:64, :64]
    clean = np.full((64, 64, 4), 128, np.float64)
    clean[..., 0] = 96 + rows
    clean[(rows // 16 + columns // 16) % 2 == 0, 1] = 100
    clean[..., 3] = 255 * ((rows - 32) ** 2 + (columns - 32) ** 2 < 28**2)
    noise = np.random.default_rng(0).normal(0, 255 * deviation, (64, 64, 3))
    noisy = clean.copy()
    noisy[..., :3] += noise
    pixels = noisy.clip(0, 255).round().astype(np.uint8)
    assert noise_deviation(Picture(64, 64, 4, pixels.tobytes())) == pytest.approx(
        deviation, rel=0.15
    )


def test_a_clean_picture_has_hardly_any_noise() -> None:
    flat = np.full((32, 32, 4), 200, np.uint8)
    assert noise_deviation(Picture(32, 32, 4, flat.tobytes())) == 0
    flat[..., 3] = 0
    assert noise_deviation(Picture(32, 32, 4, flat.tobytes())) == 0


def test_pixels_survive_the_way_to_values_and_back() -> None:
    picture = painting(5)
    back = to_picture(to_values(picture))
    old = np.frombuffer(picture.pixels, np.uint8).reshape(SIDE, SIDE, 4).astype(int)
    new = np.frombuffer(back.pixels, np.uint8).reshape(SIDE, SIDE, 4).astype(int)
    assert np.array_equal(old[..., 3] * (old[..., 3] > 1), new[..., 3])
    seen = old[..., 3:] > 1
    assert (np.abs(old - new)[..., :3] * seen).max() <= 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(request("vary"), source=None), "none was given"),
        (replace(request("vary"), operation="generate"), "generate takes no image"),
        (request("vary", picture=painting(1, 8)), "8x8, vary takes 16x16"),
        (request("vary", picture=Picture(16, 16, 3, bytes(768))), "3 channels"),
        (request("vary", mask=lower_half()), "mask"),
        (request("inpaint", mask=None), "mask"),
        (request("inpaint", mask=b"\0"), "a mask of 1 pixels"),
        (request("upscale", picture=painting(1, 5)), "5x5, upscale takes 8x8 or 4x4"),
    ],
)
def test_a_source_that_does_not_fit_is_refused_in_words(
    model: FlowSampler, wrong: ImageRequest, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        model.start(wrong)


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("vary", {"strength": 0.0}),
        ("vary", {"strength": 1.5}),
        ("denoise", {"noise": float("nan")}),
        ("denoise", {"noise": -1.0}),
        ("denoise", {"strength": 0.5}),
        ("upscale", {"noise": 0.5}),
    ],
)
def test_a_parameter_out_of_range_or_without_meaning_is_refused(
    operation: Operation, value: dict[str, float]
) -> None:
    with pytest.raises(InvalidField) as caught:
        request(operation, **value)  # type: ignore[arg-type]
    assert caught.value.field == next(iter(value))


def test_no_noise_at_all_is_no_division_by_zero(model: FlowSampler) -> None:
    (picture,) = draw(model, request("denoise", noise=0.0))
    assert picture.width == SIDE
    row = model.start(request("vary", strength=0.01))
    while not row.done:
        model.step([row])
    assert bool(torch.isfinite(row.trajectory.latent).all())


def test_a_checkpoint_of_opaque_pictures_edits_too(tmp_path: Path) -> None:
    """Three channels: no alpha to know, none to keep."""
    checkpoint = open_checkpoint(tiny_flow(tmp_path, channels=3))
    model = load_model(checkpoint, device="cpu", dtype="fp32", tile=8)
    for operation, source in SOURCES.items():
        side = source.picture.width
        picture = Picture(side, side, 3, bytes(range(256)) * 3 if side == SIDE else bytes(48))
        asked = model.spec.request(
            "",
            1,
            operation=operation,
            source=replace(source, picture=picture),
            steps=2,
            guidance=1.0,
        )
        (made,) = generate(model, [asked])
        assert (made.width, made.channels) == (SIDE, 3)
