"""A generator in shared passes: one pass a picture, every picture its own."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.engine.selftest import seed_exact
from model.checkpoint import Checkpoint, load_model
from model.gan.network import Generator
from model.gan.sampler import GanSampler
from model.passes import FixedPass
from model.protocol import Picture, RowRequest, Source
from model.sampling import generate
from model.tokenizer import PromptTooLong
from tests.tiny import tiny_gan

REQUESTS = [
    RowRequest("red apple", 1, 1, 1),
    RowRequest("", 2, 1, 1),
    RowRequest("blue square", 3, 1, 1),
    RowRequest("绿色圆形", 4, 1, 1),
    RowRequest("red apple", 2**53 - 1, 1, 1),
]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GanSampler:
    checkpoint = Checkpoint.open(tiny_gan(tmp_path_factory.mktemp("tiny")))
    sampler = load_model(checkpoint, device="cpu", dtype=request.param, tile=8)
    assert isinstance(sampler, GanSampler)
    return sampler


def alone(model: GanSampler, request: RowRequest) -> Picture:
    return next(generate(model, [request]))


def test_a_picture_is_the_same_in_any_company_order_and_place(model: GanSampler) -> None:
    expected = [alone(model, request) for request in REQUESTS]
    assert len(set(expected)) == len(expected)
    for order in itertools.islice(itertools.permutations(range(5)), 0, None, 17):
        pictures = generate(model, [REQUESTS[i] for i in order])
        assert list(pictures) == [expected[i] for i in order]


def test_the_self_test_finds_it_seed_exact(model: GanSampler) -> None:
    assert seed_exact(model)


def test_rows_that_see_each_other_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inverse: a network whose pictures depend on their company."""
    forward = Generator.forward

    def together(self: Generator, latent: Tensor, tokens: Tensor) -> Tensor:
        return forward(self, latent + 0.1 * latent.mean(0), tokens)

    monkeypatch.setattr(Generator, "forward", together)
    checkpoint = Checkpoint.open(tiny_gan(tmp_path))
    assert not seed_exact(load_model(checkpoint, device="cpu", dtype="fp32", tile=8))


def test_one_picture_costs_one_pass(model: GanSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a full tile costs one, too."""
    passes = []
    fetch = FixedPass.fetch

    def counted(one: FixedPass[tuple[Tensor]]) -> tuple[Tensor, ...]:
        passes.append(one)
        return fetch(one)

    monkeypatch.setattr(FixedPass, "fetch", counted)
    alone(model, REQUESTS[0])
    assert len(passes) == 1
    list(generate(model, [replace(REQUESTS[0], seed=seed) for seed in range(8)]))
    assert len(passes) == 2


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
    with pytest.raises(ValueError, match="9 evaluations do not fit a tile of 8"):
        model.step(rows)


def test_what_it_cannot_do_is_refused_by_name(model: GanSampler) -> None:
    with pytest.raises(PromptTooLong, match="at most 48"):
        model.start(RowRequest("many words " * 30, 1, 1, 1))
    for change in ({"steps": 2}, {"guidance": 2.0}):
        with pytest.raises(ValueError, match="draws in 1 step, and has no guidance"):
            model.start(replace(REQUESTS[0], **change))
    source = Source(Picture(16, 16, 4, bytes(16 * 16 * 4)))
    with pytest.raises(ValueError, match="cannot vary this"):
        model.start(replace(REQUESTS[0], operation="vary", source=source))
