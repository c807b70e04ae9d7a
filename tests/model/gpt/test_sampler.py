"""Rows of a gpt in shared passes: every result its own, every KV slot released."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.engine.selftest import examine
from model.checkpoint import CheckpointError
from model.gpt.drawing import DrawingRow
from model.gpt.network import Cache
from model.gpt.passes import guided
from model.gpt.sampler import GptRow, GptSampler
from model.gpt.sequence import UNKNOWN
from model.loading import load_model
from model.protocol import Description, Result
from model.registry import open_checkpoint
from model.request import ImageRequest, Picture, Source
from model.runtime.generate import fitting, run
from model.tokenizer import PromptTooLong
from tests.tiny import GPT_SPEC, PROMPTS, TOKENIZER, tiny_gpt

SIDE, PLACES = 16, 16


def painting(seed: int) -> Picture:
    dice = random.Random(seed)
    return Picture(SIDE, SIDE, 4, dice.randbytes(SIDE * SIDE * 4))


def lower(rows: int = 8) -> bytes:
    """A mask that keeps the upper ``rows`` rows of pixels."""
    return bytes(SIDE * rows) + bytes([255]) * (SIDE * (SIDE - rows))


def ask(prompt: str = "", seed: int = 0, **more: Any) -> ImageRequest:
    return GPT_SPEC.request(prompt, seed, **more)


LONG = "a grinning face with big eyes and a very long text"
REQUESTS = [
    ask("red apple", 1),
    ask("", 2),
    ask("blue square", 3, guidance=1.0, temperature=0.7, top_k=4),
    ask(LONG, 2**53 - 1, guidance=5.0, temperature=1.3, top_p=0.9),
    ask("绿色圆形", 5, operation="inpaint", source=Source(painting(1), lower())),
    ask(seed=6, operation="describe", source=Source(painting(2))),
    ask(
        operation="describe",
        source=Source(painting(2)),
        labels=("cat", "a dog with a long text of more tokens", "red apple"),
    ),
]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GptSampler:
    checkpoint = open_checkpoint(tiny_gpt(tmp_path_factory.mktemp("tiny")))
    sampler = load_model(checkpoint, device="cpu", dtype=request.param, tile=8)
    assert isinstance(sampler, GptSampler)
    return sampler


@pytest.fixture(scope="module")
def expected(model: GptSampler) -> list[Result]:
    """What each request gives alone."""
    return [alone(model, request) for request in REQUESTS]


def alone(model: GptSampler, request: ImageRequest) -> Result:
    return next(run(model, [request]))


def preview(model: GptSampler, row: GptRow) -> Result:
    """The image of the codes so far."""
    model.preview(row)
    while row.kind == "decode":
        model.step([row])
    return model.result(row)


def drawn(model: GptSampler, request: ImageRequest) -> Picture:
    picture = alone(model, request)
    assert isinstance(picture, Picture)
    return picture


def described(model: GptSampler, request: ImageRequest) -> Description:
    description = alone(model, request)
    assert isinstance(description, Description)
    return description


def test_a_result_is_the_same_beside_any_rows_in_any_order_and_slot(
    model: GptSampler, expected: list[Result]
) -> None:
    assert len(set(expected)) == len(expected)
    dice = random.Random(0)
    for _ in range(6):
        order = dice.sample(range(len(REQUESTS)), len(REQUESTS))
        results = list(run(model, [REQUESTS[i] for i in order]))
        assert results == [expected[i] for i in order]


def test_rows_come_and_go_at_every_step(model: GptSampler, expected: list[Result]) -> None:
    """One row after the other joins as soon as there are KV slots, wherever the others are."""
    waiting = list(enumerate(REQUESTS * 3))
    random.Random(1).shuffle(waiting)
    running: dict[int, Any] = {}
    shared: set[int] = set()
    while waiting or running:
        while waiting and model.cost(waiting[-1][1]) <= model.free_slots:
            index, request = waiting.pop()
            running[index] = model.start(request)
        model.step(fitting(model, list(running.values())))
        shared.add(len({row.step for row in running.values() if row.kind == "token"}))
        for index, row in [(index, row) for index, row in running.items() if row.done]:
            assert model.result(row) == expected[index % len(REQUESTS)]
            model.release(row)
            del running[index]
    assert max(shared) > 1  # rows at different places did share a pass
    assert model.free_slots == model.tile


def test_a_pass_is_as_small_as_the_slots_of_its_rows_allow(model: GptSampler) -> None:
    """Whatever lies beyond them: also the second slot of a guided row that takes no part."""
    examine(model)
    requests = [ask("", seed) for seed in range(4)]
    expected = [alone(model, request) for request in requests]
    rows = [model.start(request) for request in requests]
    model.release(rows[1])
    astride = model.start(REQUESTS[0])
    assert [slot.index for slot in astride.slots] == [1, 4]
    while not all(row.kind == "token" for row in (*rows, astride) if row.slots):
        model.step([row for row in (*rows, astride) if row.slots and row.kind != "token"])
    (whole,) = model.step([rows[0], rows[2], rows[3], astride])
    assert (whole.evaluations, whole.size) == (5, 6)
    while not (rows[0].done and rows[2].done):
        for done in model.step([row for row in (rows[0], rows[2]) if not row.done]):
            assert done.size == min(size for size in model.rungs.sizes if size >= 3) or (
                (done.kind, done.evaluations, done.size) == ("decode", 1, 1)
            )
    assert [model.result(rows[0]), model.result(rows[2])] == [expected[0], expected[2]]
    for row in (*rows, astride):
        model.release(row)


def test_the_self_test_of_the_engine_passes(model: GptSampler) -> None:
    assert examine(model).seed_exact


def test_with_slots_that_are_not_apart_the_same_test_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inverse: rows that read what was fed to another slot are found out."""
    put = Cache.put

    def to_the_next_slot(cache: Cache, keys: Tensor, values: Tensor, rows: Tensor) -> None:
        put(cache, keys.roll(1, 0), values.roll(1, 0), rows)

    monkeypatch.setattr(Cache, "put", to_the_next_slot)
    checkpoint = open_checkpoint(tiny_gpt(tmp_path / "tiny"))
    assert not examine(load_model(checkpoint, device="cpu", dtype="fp32", tile=8)).seed_exact


def test_looking_at_previews_changes_nothing(model: GptSampler, expected: list[Result]) -> None:
    row = model.start(REQUESTS[0])
    previews = [preview(model, row)]
    while not row.done:
        model.step([row])
        previews.append(preview(model, row))
    model.release(row)
    assert previews[-1] == expected[0]
    assert len(set(previews)) > PLACES / 2


def test_an_image_is_decoded_in_a_pass_of_its_own_a_few_a_step(model: GptSampler) -> None:
    """Neither a preview nor a result is decoded inside another row's pass; those that end
    together do not wait for each other, and more of them than fit do not hold up a step."""
    rows = [model.start(REQUESTS[index]) for index in (0, 0, 1, 1, 1)]
    while rows[0].step < 3:
        model.step([row for row in rows if row.step < 3])
    for row in rows:
        model.preview(row)
        assert (row.kind, row.evaluations) == ("decode", 1)
    assert model.capacity("decode") == model.capacity("encode") == 4
    with pytest.raises(ValueError, match="5 evaluations do not fit a pass of 4"):
        model.step(rows)
    model.step(rows[:4])
    assert [(row.kind, row.step) for row in rows] == [*[("token", 3)] * 4, ("decode", 3)]
    model.step(rows[4:])
    pictures = [model.result(row) for row in rows]
    assert pictures[0] == pictures[1] != pictures[2] == pictures[3] == pictures[4]
    for row in rows:
        model.release(row)


def test_the_last_step_is_not_the_end(model: GptSampler, expected: list[Result]) -> None:
    """A row is done when its image has been decoded; until then it shows its last preview."""
    row = model.start(REQUESTS[1])
    while row.step < row.steps:
        model.step([row])
    assert (row.kind, row.done) == ("decode", False)
    model.preview(row)  # asks for what comes anyway
    model.step([row])
    assert row.done
    assert model.result(row) == expected[1]
    model.preview(row)
    assert row.done
    model.release(row)


def test_a_preview_shows_what_is_drawn_and_nothing_else(model: GptSampler) -> None:
    row = model.start(ask("red apple", 1))
    while row.step < 6:  # a row of places, and a half
        model.step([row])
    shown = preview(model, row)
    model.release(row)
    assert isinstance(shown, Picture)
    upper, rest = shown.pixels[: 4 * SIDE * 4], shown.pixels[8 * SIDE * 4 :]
    assert any(upper)
    assert not any(rest)


def test_more_guidance_and_other_settings_are_other_pictures(model: GptSampler) -> None:
    pictures = {
        drawn(model, ask("red apple", 1, guidance=guidance, **sampling))
        for guidance in (1.0, 4.0)
        for sampling in ({}, {"temperature": 0.3}, {"top_k": 2}, {"temperature": 0})
    }
    assert len(pictures) == 8


def test_guidance_hears_what_was_asked_for_whatever_was_drawn(model: GptSampler) -> None:
    """One KV slot is shown all that was drawn, the other what the request gave of the image."""
    source = Source(painting(1), lower())
    row = model.start(ask("red apple", 1, operation="inpaint", source=source))
    assert isinstance(row, DrawingRow)
    seen = 0
    while not row.done:
        if row.kind == "token":
            drawn, given = row.shown
            assert torch.equal(drawn, row.codes[row.step - 1])
            if row.step == PLACES // 2:  # after the last place of the request
                assert torch.equal(given, drawn)
            else:
                assert bool((given == UNKNOWN).all())
            seen += 1
        model.step([row])
    model.release(row)
    assert seen == PLACES // 2


def test_guidance_is_a_mean_of_two_predictions() -> None:
    after_all, undrawn = torch.tensor([[1.0, -2.0]] * 2), torch.tensor([[3.0, 6.0]] * 2)
    logits = guided(after_all, undrawn, torch.tensor([1.0, 4.0]))
    assert torch.equal(logits, torch.tensor([[1.0, -2.0], [2.5, 4.0]]))


def test_without_a_prompt_it_is_one_of_what_it_learned(model: GptSampler) -> None:
    def all_of(prompts: Sequence[str], seeds: range) -> set[Picture]:
        asked = [ask(p, s, guidance=1, temperature=0) for p in prompts for s in seeds]
        return {drawn(model, request) for request in asked}

    unasked = all_of([""], range(12))
    assert len(unasked) > 1
    assert unasked <= all_of(PROMPTS, range(1))


def test_at_temperature_zero_the_seed_plays_no_part(model: GptSampler) -> None:
    assert drawn(model, ask("red apple", 1, temperature=0)) == drawn(
        model, ask("red apple", 2, temperature=0)
    )


def test_noise_is_the_rows_own(model: GptSampler, expected: list[Result]) -> None:
    """Torch's shared generator must play no part."""
    torch.manual_seed(1)
    torch.randn(100)
    assert alone(model, REQUESTS[0]) == expected[0]


def test_an_upper_half_is_kept_and_continued(model: GptSampler) -> None:
    source = Source(painting(1), lower())
    pictures = [
        drawn(model, ask("red apple", seed, operation="inpaint", source=source))
        for seed in range(3)
    ]
    half = SIDE * SIDE * 4 // 2
    assert {picture.pixels[:half] for picture in pictures} == {source.picture.pixels[:half]}
    assert len({picture.pixels[half:] for picture in pictures}) == 3


def test_what_is_hidden_plays_no_part(model: GptSampler) -> None:
    """Completing must not be copying: two images with one upper half have one continuation."""
    one, other = painting(1), painting(2)
    half = SIDE * SIDE * 4 // 2
    same = Picture(SIDE, SIDE, 4, one.pixels[:half] + other.pixels[half:])
    continued = [
        drawn(model, ask("red apple", 3, operation="inpaint", source=Source(each, lower())))
        for each in (one, same)
    ]
    assert continued[0] == continued[1]


def test_only_what_is_hidden_takes_steps(model: GptSampler) -> None:
    """The codes that are kept at the beginning are fed in chunks."""
    row = model.start(ask("", 1, operation="inpaint", source=Source(painting(1), lower(12))))
    kinds = []
    while not row.done:
        kinds.append(row.kind)
        model.step([row])
    model.release(row)
    assert kinds == ["encode", "prefill", *["token"] * 4, "decode"]


def test_any_mask_keeps_what_it_does_not_hide(model: GptSampler) -> None:
    """A hole in the middle: places after it keep their codes too."""
    mask = bytearray(SIDE * SIDE)
    for row in range(5, 9):
        mask[row * SIDE + 5 : row * SIDE + 9] = b"\xff" * 4
    source = Source(painting(1), bytes(mask))
    picture = drawn(model, ask("", 1, operation="inpaint", source=source))
    for place, hidden in enumerate(mask):
        same = slice(4 * place, 4 * place + 4)
        assert hidden or picture.pixels[same] == source.picture.pixels[same]
    assert picture != source.picture


@pytest.mark.parametrize("mask", [bytes(SIDE * SIDE), bytes([255]) * SIDE * SIDE])
def test_nothing_and_everything_can_be_hidden(model: GptSampler, mask: bytes) -> None:
    source = Source(painting(1), mask)
    picture = drawn(model, ask("", 1, operation="inpaint", source=source))
    assert (picture == source.picture) is not any(mask)


def test_labels_are_those_that_were_given(model: GptSampler) -> None:
    labels = ("cat", "dog", "Cat")
    request = ask(operation="describe", source=Source(painting(3)), labels=labels)
    description = described(model, request)
    assert {label.text for label in description.labels} == {"cat", "dog"}  # "Cat" reads the same
    assert sum(label.probability for label in description.labels) == pytest.approx(1)
    probabilities = [label.probability for label in description.labels]
    assert probabilities == sorted(probabilities, reverse=True)


def test_without_labels_it_knows_its_own(model: GptSampler) -> None:
    description = described(model, ask(operation="describe", source=Source(painting(3))))
    assert {label.text for label in description.labels} == set(PROMPTS)
    assert sum(label.probability for label in description.labels) == pytest.approx(1)


def test_labels_weigh_as_their_tokens_do_without_a_cache(model: GptSampler) -> None:
    """Two ways of one sum: searched for among the captions, or each given as a label."""
    own = described(model, ask(operation="describe", source=Source(painting(4))))
    given = described(
        model, ask(operation="describe", source=Source(painting(4)), labels=tuple(PROMPTS))
    )
    assert [label.text for label in own.labels] == [label.text for label in given.labels]
    for one, other in zip(own.labels, given.labels, strict=True):
        assert one.probability == pytest.approx(other.probability, rel=0.2)


def test_slots_come_back_whatever_happens(model: GptSampler) -> None:
    """Done, cancelled at any step, let go twice: all slots are free again."""
    dice = random.Random(3)
    for _ in range(20):
        rows = [model.start(dice.choice(REQUESTS)) for _ in range(4)]
        assert model.free_slots == model.tile - sum(len(row.slots) for row in rows)
        for _ in range(dice.randrange(4)):
            model.step(fitting(model, [row for row in rows if not row.done]))
        for row in [*rows, *rows]:
            model.release(row)
        assert model.free_slots == model.tile
    with pytest.raises(PromptTooLong):
        model.start(ask("many words " * 30))
    assert model.free_slots == model.tile


def test_more_rows_than_slots_are_a_mistake(model: GptSampler) -> None:
    rows = [model.start(REQUESTS[0]) for _ in range(4)]
    with pytest.raises(RuntimeError, match="1 KV slots are needed, 0 of 8 are free"):
        model.start(REQUESTS[1])
    for row in rows:
        model.release(row)


def test_a_pass_never_takes_more_than_the_rows_cost(model: GptSampler) -> None:
    for request, kinds in [
        (REQUESTS[0], {"prefill": {2}, "token": {2}, "decode": {1}}),
        (REQUESTS[1], {"prefill": {1}, "token": {1}, "decode": {1}}),
        (REQUESTS[3], {"prefill": {2}, "token": {2}, "decode": {1}}),
        (REQUESTS[4], {"encode": {1}, "prefill": {2}, "token": {2}, "decode": {1}}),
        (REQUESTS[6], {"encode": {1}, "prefill": {2}, "score": {1, 2}}),
    ]:
        row = model.start(request)
        seen: dict[str, set[int]] = {}
        steps = [row.step]
        while not row.done:
            seen.setdefault(row.kind, set()).add(row.evaluations)
            assert row.evaluations <= model.cost(request)
            model.step([row])
            steps.append(row.step)
        model.release(row)
        assert seen == kinds
        assert steps == sorted(steps)
        assert steps[-1] == row.steps == PLACES


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ask(operation="vary", source=Source(painting(1))), "cannot vary"),
        (ask(operation="describe"), "describe takes an image, none was given"),
        (ask(operation="inpaint", source=Source(painting(1))), "inpaint takes a mask"),
        (ask(operation="describe", source=Source(painting(1), lower())), "takes a mask, and"),
        (
            ask(operation="inpaint", source=Source(painting(1), b"\xff")),
            "a mask of 1 pixels, not of 16x16",
        ),
        (
            ask(operation="describe", source=Source(Picture(16, 16, 3, bytes(768)))),
            "an image of 3 channels",
        ),
        (
            ask(operation="describe", source=Source(painting(1)), labels=("ok", "many " * 60)),
            "at most 48 are accepted",
        ),
    ],
)
def test_what_cannot_be_is_refused(model: GptSampler, request_: ImageRequest, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.start(request_)
    assert model.free_slots == model.tile


def test_a_picture_without_transparency(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_gpt(tmp_path / "tiny", channels=3))
    model = load_model(checkpoint, device="cpu", dtype="fp32", tile=4)
    assert isinstance(model, GptSampler)
    row = model.start(ask("red apple", 1, guidance=1.0))
    shown = preview(model, row)
    assert shown == Picture(SIDE, SIDE, 3, b"\xff" * (SIDE * SIDE * 3))
    model.release(row)


def test_a_drawing_takes_one_step_of_the_network_for_each_place(
    model: GptSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache each place costs one position, not all positions before it once more."""
    alone(model, ask("red apple", 1))  # in sizes that are compared with the tile the first time
    positions = 0
    advance = model._passes._transformer.advance

    def counted(ids: Tensor, *rest: Any) -> Tensor:
        nonlocal positions
        positions += ids.shape[1]
        return advance(ids, *rest)

    monkeypatch.setattr(model._passes._transformer, "advance", counted)
    row = model.start(ask("red apple", 1))
    while not row.done:
        model.step([row])
    model.release(row)
    assert isinstance(row, DrawingRow)
    fed = 16  # the prompt's chunk
    assert positions == fed + PLACES
    assert positions < sum(fed + place for place in range(PLACES)) / 5


@torch.inference_mode()
def test_without_a_cache_the_same_codes_are_drawn(tmp_path: Path) -> None:
    """At temperature zero, place by place, with guidance; but for codes as good as equal."""
    model = load_model(open_checkpoint(tiny_gpt(tmp_path / "tiny")), device="cpu", dtype="fp32")
    assert isinstance(model, GptSampler)
    guidance, transformer = 3.0, model._passes._transformer
    head = transformer.code_head
    layout, tokens = transformer.layout, TOKENIZER.tokens("red apple")
    row = model.start(ask("red apple", 1, guidance=guidance, temperature=0))
    while not row.done:
        model.step([row])
    model.release(row)
    assert isinstance(row, DrawingRow)

    sure = 0
    for place, codes in enumerate(row.codes):
        picture = layout.image(row.codes[:place])
        undrawn = layout.image(torch.full_like(row.codes[:place], UNKNOWN))
        slots = [torch.cat((layout.text(tokens), each)) for each in (picture, undrawn)]
        states = [transformer(ids[None], torch.zeros(1))[0, -1] for ids in slots]
        for number, code in enumerate(codes):
            drawn, of_prompt = (head.logits(state, number) for state in states)
            logits = (drawn + (guidance - 1) * of_prompt) / guidance
            (best, next_best), [first, _] = logits.topk(2)
            if best - next_best > 1e-3:
                assert code == first
                sure += 1
            if number + 1 < len(codes):
                states = [head.after(state, number, code) for state in states]
    assert sure > PLACES


def test_a_folder_without_captions_is_no_gpt(tmp_path: Path) -> None:
    folder = tiny_gpt(tmp_path / "tiny")
    digest = open_checkpoint(folder).spec.digest
    (folder / "captions.txt").write_text("other\n")
    assert open_checkpoint(folder).spec.digest != digest  # other labels, other answers
    (folder / "captions.txt").unlink()
    with pytest.raises(CheckpointError, match=r"captions\.txt: missing; such a checkpoint has"):
        open_checkpoint(folder)
