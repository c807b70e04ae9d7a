"""The promise that an image does not depend on the other rows, and what it rests on."""

import itertools
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from cachetools import LRUCache

from app.engine.selftest import examine
from model.checkpoint import CONFIG
from model.flow.sampler import FlowSampler
from model.loading import load_model
from model.protocol import Pass
from model.registry import open_checkpoint
from model.request import ImageRequest, Picture, Source
from model.runtime.generate import generate
from model.runtime.smoothing import without_grain
from model.tokenizer import PromptTooLong
from tests.tiny import FLOW_SPEC, tiny_flow, with_sampling

REQUESTS = [
    FLOW_SPEC.request("red apple", 1, steps=4, guidance=2.0),
    FLOW_SPEC.request("", 2, steps=7, guidance=2.0),
    FLOW_SPEC.request("blue square", 3, steps=5, guidance=1.0, solver_order=2),
    FLOW_SPEC.request("绿色圆形", 4, steps=3, guidance=3.5, solver_order=2),
    FLOW_SPEC.request("red apple", 2**53 - 1, steps=4, guidance=2.0),
]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlowSampler:
    checkpoint = open_checkpoint(tiny_flow(tmp_path_factory.mktemp("tiny")))
    sampler = load_model(checkpoint, device="cpu", dtype=request.param, tile=8)
    assert isinstance(sampler, FlowSampler)
    return sampler


def forget(model: FlowSampler) -> None:
    """Has the model read prompts again."""
    model.rungs.use(model.rungs.smaller)


def alone(model: FlowSampler, request: ImageRequest) -> Picture:
    forget(model)
    return next(generate(model, [request]))


def test_a_picture_is_the_same_beside_any_rows_in_any_order(model: FlowSampler) -> None:
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


def test_guidance_takes_two_evaluations_and_an_empty_prompt_one(model: FlowSampler) -> None:
    evaluations = []
    for request in REQUESTS[:3]:
        row = model.start(request)
        assert (row.kind, row.evaluations) == ("encode", 1)
        model.step([row])
        assert row.evaluations == model.cost(request)
        evaluations.append((row.kind, row.evaluations))
    assert evaluations == [("denoise", 2), ("denoise", 1), ("denoise", 1)]


def test_a_pass_is_as_small_as_its_rows_allow(model: FlowSampler) -> None:
    assert examine(model).rungs[0] < model.tile
    encode, denoise = (
        partial(model.rungs.holding, kind) for kind in (model._encoding, model._denoising)
    )
    for requests in (REQUESTS[1:2], REQUESTS[:1], REQUESTS[:2], REQUESTS[:4]):
        forget(model)
        rows = [model.start(request) for request in requests]
        count, taken = len(rows), sum(map(model.cost, requests))
        denoised = Pass("denoise", taken, denoise(taken))
        assert model.step(rows) == [Pass("encode", count, encode(count)), denoised]
        assert model.step(rows) == [denoised]


def test_a_row_is_denoised_in_the_step_that_reads_its_prompt_if_there_is_room(
    model: FlowSampler,
) -> None:
    # Else a row that joins a full batch leaves its place in one pass empty.
    rows = [model.start(FLOW_SPEC.request(f"red apple {seed}", seed)) for seed in range(5)]
    assert model.step(rows) == [Pass("encode", 5, 6), Pass("denoise", 8, 8)]
    assert [row.step for row in rows] == [1, 1, 1, 1, 0]
    assert model.step(rows[1:]) == [Pass("denoise", 8, 8)]
    assert [row.step for row in rows] == [1, 2, 2, 2, 1]


def test_a_prompt_is_read_once(model: FlowSampler) -> None:
    def kinds(*seeds: int) -> list[str]:
        rows = [model.start(FLOW_SPEC.request("red apple", seed, guidance=1.0)) for seed in seeds]
        return [f"{one.kind} {one.evaluations}" for one in model.step(rows)]

    forget(model)
    assert kinds(1, 2, 3) == ["encode 1", "denoise 3"]
    assert kinds(4) == ["denoise 1"]
    first = next(generate(model, [REQUESTS[0]]))  # of an encoding that others had a part in
    assert alone(model, REQUESTS[0]) == first
    forget(model)
    assert kinds(4) == ["encode 1", "denoise 1"]


def test_no_more_prompts_are_remembered_than_there_is_room_for(
    model: FlowSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_remembered", LRUCache(2))
    expected = [alone(model, request) for request in REQUESTS]
    assert list(generate(model, REQUESTS)) == expected
    assert len(model._remembered) == 2


def test_more_than_a_tile_is_refused(model: FlowSampler) -> None:
    rows = [model.start(REQUESTS[0]) for _ in range(5)]
    model.step(rows)
    with pytest.raises(ValueError, match="10 evaluations do not fit a pass of 8"):
        model.step(rows)


def test_a_long_prompt_is_refused_at_the_start(model: FlowSampler) -> None:
    with pytest.raises(PromptTooLong, match="at most 48"):
        model.start(FLOW_SPEC.request("many words " * 30, 1, steps=4, guidance=2.0))


def test_noise_is_the_rows_own(model: FlowSampler) -> None:
    """Torch's shared generator must play no part."""
    torch.manual_seed(1)
    one = alone(model, REQUESTS[0])
    torch.manual_seed(2)
    torch.randn(100)
    assert alone(model, REQUESTS[0]) == one


def test_generate_reports_every_step(tmp_path: Path) -> None:
    model = load_model(open_checkpoint(tiny_flow(tmp_path)), device="cpu", dtype="fp32", tile=4)
    reported: list[int] = []
    list(generate(model, REQUESTS, reported.append))
    assert sum(reported) == sum(request.value("steps") for request in REQUESTS)


def _with_sampling(folder: Path, **given: float) -> FlowSampler:
    before = json.loads((tiny_flow(folder) / CONFIG).read_text("utf-8"))["sampling"]
    assert not set(given) & set(before)  # left out where it changes nothing
    checkpoint = open_checkpoint(with_sampling(folder, **given))
    model = load_model(checkpoint, device="cpu", dtype="fp32", tile=4)
    assert isinstance(model, FlowSampler)
    return model


def _drawn(model: FlowSampler, request: ImageRequest) -> torch.Tensor:
    row = model.start(request)
    while not row.done:
        model.step([row])
    return row.predicted


def test_a_checkpoint_spaces_its_times(tmp_path: Path) -> None:
    """After two of four steps a quarter of the way is gone, not half."""
    model = _with_sampling(tmp_path, spacing=2.0)
    row = model.start(REQUESTS[0])
    while row.step < 2:
        model.step([row])
    assert row.trajectory.time == 0.25


def test_what_is_known_of_an_image_is_met_at_even_times(tmp_path: Path) -> None:
    model = _with_sampling(tmp_path, spacing=2.0)
    small = Source(Picture(8, 8, 4, bytes(8 * 8 * 4)))
    row = model.start(FLOW_SPEC.request("a", 1, operation="upscale", source=small, steps=4))
    while row.step < 2:
        model.step([row])
    assert row.trajectory.time == 0.5


@pytest.mark.parametrize("request_", [REQUESTS[0], REQUESTS[2]])
def test_a_checkpoint_smooths_what_it_has_drawn(tmp_path: Path, request_: ImageRequest) -> None:
    """At the end and not on the way, so nothing else of an image changes."""
    plain = _drawn(_with_sampling(tmp_path / "plain"), request_)
    smooth = _drawn(_with_sampling(tmp_path / "smooth", grain=0.01), request_)
    assert not torch.equal(smooth, plain)
    assert torch.equal(smooth, without_grain(plain, 0.01))


def test_what_is_known_of_an_image_is_not_smoothed(tmp_path: Path) -> None:
    """Regenerated pixels are, those outside of the mask stay to the bit."""
    pixels = bytes(torch.randint(256, (16, 16, 4), generator=torch.manual_seed(3)).flatten())
    mask = bytes([255] * 128 + [0] * 128)
    given = Source(Picture(16, 16, 4, pixels), mask=mask)
    request = FLOW_SPEC.request("a", 1, operation="inpaint", source=given, steps=2)
    plain = _drawn(_with_sampling(tmp_path / "plain"), request)
    smooth = _drawn(_with_sampling(tmp_path / "smooth", grain=0.01), request)
    same = (plain == smooth).all(0).flatten()
    assert not same[:128].all()
    assert same[128:].all()
