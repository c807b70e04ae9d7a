"""The promise that a picture does not depend on its company, and what it rests on."""

import itertools
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, load_model
from model.flow.sampler import FlowSampler
from model.protocol import Picture, RowRequest
from model.sampling import generate
from model.tokenizer import PromptTooLong
from tests.tiny import tiny_flow

REQUESTS = [
    RowRequest("red apple", 1, 4, 2.0),
    RowRequest("", 2, 7, 2.0),
    RowRequest("blue square", 3, 5, 1.0, "heun"),
    RowRequest("绿色圆形", 4, 3, 3.5, "heun"),
    RowRequest("red apple", 2**53 - 1, 4, 2.0),
]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlowSampler:
    checkpoint = Checkpoint.open(tiny_flow(tmp_path_factory.mktemp("tiny")))
    sampler = load_model(checkpoint, device="cpu", dtype=request.param, tile=8)
    assert isinstance(sampler, FlowSampler)
    return sampler


def alone(model: FlowSampler, request: RowRequest) -> Picture:
    return next(generate(model, [request]))


def test_a_picture_is_the_same_in_any_company_order_and_place(model: FlowSampler) -> None:
    expected = [alone(model, request) for request in REQUESTS]
    assert len(set(expected)) == len(expected)
    for order in itertools.islice(itertools.permutations(range(5)), 0, None, 17):
        pictures = generate(model, [REQUESTS[i] for i in order])
        assert list(pictures) == [expected[i] for i in order]


def test_a_row_that_joins_in_the_middle_changes_nothing(model: FlowSampler) -> None:
    early, late = REQUESTS[1], REQUESTS[0]
    first, second = model.start(early), None
    for step in itertools.count():
        if step == 3:
            second = model.start(late)
        running = [row for row in (first, second) if row and not row.done]
        if not running:
            break
        model.step(running)
    assert second is not None
    assert model.result(first) == alone(model, early)
    assert model.result(second) == alone(model, late)


def test_looking_at_previews_changes_nothing(model: FlowSampler) -> None:
    row = model.start(REQUESTS[0])
    previews = [model.result(row)]
    while not row.done:
        model.step([row])
        previews.append(model.result(row))
    assert previews[-1] == alone(model, REQUESTS[0])
    assert len(set(previews)) > 2


def test_guidance_takes_two_places_and_an_empty_prompt_one(model: FlowSampler) -> None:
    places = []
    for request in REQUESTS[:3]:
        row = model.start(request)
        assert (row.kind, row.evaluations) == ("encode", 1)
        model.step([row])
        places.append((row.kind, row.evaluations))
    assert places == [("denoise", 2), ("denoise", 1), ("denoise", 1)]


def test_more_than_a_tile_is_refused(model: FlowSampler) -> None:
    rows = [model.start(REQUESTS[0]) for _ in range(5)]
    model.step(rows)
    with pytest.raises(ValueError, match="10 evaluations do not fit a tile of 8"):
        model.step(rows)


def test_a_long_prompt_is_refused_at_the_start(model: FlowSampler) -> None:
    with pytest.raises(PromptTooLong, match="at most 48"):
        model.start(RowRequest("many words " * 30, 1, 4, 2.0))


def test_noise_is_the_rows_own(model: FlowSampler) -> None:
    """Torch's shared generator must play no part."""
    torch.manual_seed(1)
    one = alone(model, REQUESTS[0])
    torch.manual_seed(2)
    torch.randn(100)
    assert alone(model, REQUESTS[0]) == one


def test_generate_tells_of_every_step(tmp_path: Path) -> None:
    model = load_model(Checkpoint.open(tiny_flow(tmp_path)), device="cpu", dtype="fp32", tile=4)
    told: list[int] = []
    list(generate(model, REQUESTS, told.append))
    assert sum(told) == sum(request.steps for request in REQUESTS)
