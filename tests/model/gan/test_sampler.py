"""A generator in shared passes: one pass an image, every image its own."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.engine.selftest import examine
from model.checkpoint import CONFIG
from model.evaluation.metrics import among, on_white
from model.gan.network import Generator
from model.gan.sampler import GanSampler
from model.loading import load_model
from model.registry import SHIPPED, open_checkpoint
from model.request import ImageRequest, InvalidField, Picture, Source
from model.runtime.fixed_pass import FixedPass
from model.runtime.generate import generate
from model.runtime.smoothing import without_grain
from model.tokenizer import PromptTooLong
from tests.tiny import GAN_SPEC, PROMPTS, tiny_gan

REQUESTS = [
    GAN_SPEC.request("red apple", 1),
    GAN_SPEC.request("", 2),
    GAN_SPEC.request("blue square", 3),
    GAN_SPEC.request("绿色圆形", 4),
    GAN_SPEC.request("red apple", 2**53 - 1),
]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GanSampler:
    checkpoint = open_checkpoint(tiny_gan(tmp_path_factory.mktemp("tiny")))
    sampler = load_model(checkpoint, device="cpu", dtype=request.param, tile=8)
    assert isinstance(sampler, GanSampler)
    return sampler


def alone(model: GanSampler, request: ImageRequest) -> Picture:
    return next(generate(model, [request]))


def test_a_picture_is_the_same_beside_any_rows_in_any_order(model: GanSampler) -> None:
    expected = [alone(model, request) for request in REQUESTS]
    assert len(set(expected)) == len(expected)
    for order in itertools.islice(itertools.permutations(range(5)), 0, None, 17):
        pictures = generate(model, [REQUESTS[i] for i in order])
        assert list(pictures) == [expected[i] for i in order]


def test_the_self_test_finds_it_seed_exact(model: GanSampler) -> None:
    assert examine(model).seed_exact


def test_rows_that_see_each_other_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inverse: a network whose images depend on the other rows."""
    draw = Generator.draw

    def together(self: Generator, latent: Tensor, summary: Tensor) -> Tensor:
        return draw(self, latent + 0.1 * latent.mean(0), summary)

    monkeypatch.setattr(Generator, "draw", together)
    checkpoint = open_checkpoint(tiny_gan(tmp_path))
    assert not examine(load_model(checkpoint, device="cpu", dtype="fp32", tile=8)).seed_exact


def test_one_picture_costs_one_pass(model: GanSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a full tile costs one, too."""
    passes = []
    launch = FixedPass.launch

    def counted(one: FixedPass[Any, tuple[Tensor]], count: int) -> tuple[Tensor, ...]:
        passes.append(one)
        return launch(one, count)

    monkeypatch.setattr(FixedPass, "launch", counted)
    alone(model, REQUESTS[0])
    assert len(passes) == 1
    list(generate(model, [replace(REQUESTS[0], seed=seed) for seed in range(8)]))
    assert len(passes) == 2


def test_without_a_prompt_it_draws_a_caption_that_it_learned(model: GanSampler) -> None:
    drawn = set()
    for seed in range(12):
        learned = {alone(model, GAN_SPEC.request(text, seed)): text for text in PROMPTS}
        drawn.add(learned[alone(model, GAN_SPEC.request(" ", seed))])
    assert drawn == set(PROMPTS)


def test_one_that_learned_no_captions_draws_what_the_latent_says(tmp_path: Path) -> None:
    folder = tiny_gan(tmp_path)
    (folder / "captions.txt").write_text("")
    model = load_model(open_checkpoint(folder), device="cpu", dtype="fp32", tile=2)
    frames = [GAN_SPEC.request("", 5, operation="walk", phase=turn) for turn in (0, 0.1)]
    pictures = [next(generate(model, [request])) for request in frames]
    assert pictures[0] != pictures[1]
    assert pictures[0] == next(generate(model, [replace(frames[0], operation="generate")]))


def test_a_walk_without_a_prompt_goes_from_caption_to_caption(model: GanSampler) -> None:
    """Each is reached at a quarter; between two, the image lies between theirs."""
    stops = [replace(REQUESTS[1], operation="walk", phase=turn) for turn in (0, 0.25)]
    rows = [model.start(request) for request in stops]
    assert rows[0].prompt == model.start(REQUESTS[1]).prompt
    assert rows[1].prompt == model.start(replace(REQUESTS[1], seed=3)).prompt
    assert rows[0].prompt != rows[1].prompt
    latent = rows[0].latent

    def share(turn: float) -> torch.Tensor:
        row = model.start(replace(stops[0], phase=turn))
        row.latent = latent
        model.step([row])
        return row.drawn

    made = [share(turn) for turn in (0, 0.02, 0.125, 0.23, 0.25)]
    step = [(one - another).square().mean() for one, another in itertools.pairwise(made)]
    assert 0 < step[0] < step[1] > 0
    assert step[3] < step[2]


def test_a_walk_and_what_stands_beside_it_do_not_touch_each_other(model: GanSampler) -> None:
    frames = [replace(REQUESTS[1], operation="walk", phase=k / 7) for k in range(5)]
    expected = [alone(model, request) for request in (*frames, *REQUESTS[:3])]
    together = [*REQUESTS[:3], *frames[::-1]]
    assert list(generate(model, together)) == [*expected[5:], *expected[4::-1]]
    assert [alone(model, request) for request in REQUESTS[:3]] == expected[5:]  # nothing is left


def test_a_checkpoint_smooths_what_it_draws(tmp_path: Path) -> None:
    path = tiny_gan(tmp_path) / CONFIG
    config = json.loads(path.read_text("utf-8"))
    drawn = []
    for given in ({}, {"grain": 0.03}):
        path.write_text(json.dumps(config | given), encoding="utf-8")
        gan = load_model(open_checkpoint(tmp_path), device="cpu", dtype="fp32", tile=2)
        row = gan.start(GAN_SPEC.request("red apple", 1))
        gan.step([row])
        drawn.append(row.drawn)
    assert torch.equal(drawn[1], without_grain(drawn[0], 0.03))
    assert not torch.equal(*drawn)


def test_before_its_step_a_row_shows_nothing(model: GanSampler) -> None:
    row = model.start(REQUESTS[0])
    assert (row.kind, row.evaluations, row.steps, row.done) == ("draw", 1, 1, False)
    assert not any(model.result(row).pixels)
    model.step([row])
    assert row.done
    assert model.result(row) == alone(model, REQUESTS[0])


def test_noise_is_the_rows_own(model: GanSampler) -> None:
    """Torch's shared generator must play no part."""
    torch.manual_seed(1)
    one = alone(model, REQUESTS[0])
    torch.manual_seed(2)
    torch.randn(100)
    assert alone(model, REQUESTS[0]) == one


def test_more_than_a_tile_is_refused(model: GanSampler) -> None:
    rows = [model.start(REQUESTS[0]) for _ in range(9)]
    with pytest.raises(ValueError, match="9 evaluations do not fit a pass of 8"):
        model.step(rows)


def test_what_it_cannot_do_is_refused_by_name(model: GanSampler) -> None:
    with pytest.raises(PromptTooLong, match="at most 48"):
        model.start(GAN_SPEC.request("many words " * 30, 1))
    for change in ({"steps": 2}, {"guidance": 2.0}, {"strength": 0.5}):
        with pytest.raises(InvalidField):
            GAN_SPEC.request("red apple", **change)
    source = Source(Picture(16, 16, 4, bytes(16 * 16 * 4)))
    with pytest.raises(ValueError, match="cannot vary"):
        model.start(replace(REQUESTS[0], operation="vary", source=source))


def test_seeds_of_the_one_that_ships_differ_as_real_pictures_do() -> None:
    """No collapse, and nothing to ask for. Of real images it is 0.13."""
    checkpoint = open_checkpoint(SHIPPED / "emoji-gan")
    model = load_model(checkpoint, device="cpu", dtype="auto")
    made = list(generate(model, [checkpoint.spec.request(seed=seed) for seed in range(32)]))
    assert among([on_white(picture) for picture in made]) < 0.2
