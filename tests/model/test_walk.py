"""Walks: a circle through noise that begins at a seed's own image and ends there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.loading import load_model
from model.registry import open_checkpoint
from model.request import SEEDS, ImageRequest
from model.runtime.generate import generate
from model.runtime.noise import noise_of
from tests.tiny import FLOW_SPEC, GPT_SPEC, tiny_flow, tiny_gan, tiny_gpt

FRAME = FLOW_SPEC.request("red apple", 7, operation="walk", steps=2, guidance=1)


def frames(count: int) -> list[ImageRequest]:
    return [replace(FRAME, phase=k / count) for k in range(count)]


def test_it_begins_at_the_seed_and_passes_the_next_one() -> None:
    plain = replace(FRAME, operation="generate")
    quarter = noise_of(replace(FRAME, phase=0.25), (3, 4))
    assert torch.equal(noise_of(FRAME, (3, 4)), noise_of(plain, (3, 4)))
    torch.testing.assert_close(quarter, noise_of(replace(plain, seed=8), (3, 4)))
    last = replace(FRAME, seed=SEEDS - 1, phase=0.25)
    torch.testing.assert_close(noise_of(last, (9,)), noise_of(replace(plain, seed=0), (9,)))


def test_every_step_of_it_is_as_long_and_as_normal() -> None:
    """On a straight line, noise would be too weak in the middle, and images too pale."""
    circle = torch.stack([noise_of(frame, (20_000,)) for frame in frames(12)])
    deviation = circle.std(1)
    assert deviation.min() > 0.97
    assert deviation.max() < 1.03
    steps = (circle - circle.roll(1, 0)).square().mean(1).sqrt()  # the last leads to the first
    torch.testing.assert_close(steps, steps.mean().expand(12), rtol=0.03, atol=0)


@pytest.mark.parametrize("make", [tiny_flow, tiny_gan])
def test_its_pictures_turn_into_one_another(make: Callable[[Path], Path], tmp_path: Path) -> None:
    model = load_model(open_checkpoint(make(tmp_path)), device="cpu", dtype="fp32", tile=8)
    assert "walk" in model.spec.operations
    steps = model.spec.parameter("steps")
    assert steps is not None
    given = {"steps": min(2, steps.maximum), "guidance": 1}
    some = [replace(frame, parameters=model.spec.fill(given)) for frame in frames(8)]
    pictures = list(generate(model, some))
    assert len(set(pictures)) == 8
    assert pictures[3] == next(generate(model, some[3:4]))  # alone
    assert pictures[0] == next(generate(model, [replace(some[0], operation="generate")]))


def test_a_gpt_cannot_walk(tmp_path: Path) -> None:
    model = load_model(open_checkpoint(tiny_gpt(tmp_path)), device="cpu", dtype="fp32", tile=8)
    assert "walk" not in model.spec.operations
    with pytest.raises(ValueError, match="cannot walk"):
        next(generate(model, [GPT_SPEC.request("red apple", 7, operation="walk")]))
