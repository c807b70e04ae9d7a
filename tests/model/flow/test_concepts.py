"""A flow that knows concepts must draw of a prompt what it draws of the concepts' numbers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.engine.selftest import examine
from model.data.concepts import Concepts
from model.flow.concepts import ConceptMemory
from model.flow.config import (
    FlowCheckpoint,
    FlowCheckpointConfig,
    FlowConfig,
    SamplingConfig,
    TextConfig,
)
from model.gan.config import GanCheckpoint
from model.loading import Dtype, load_model, load_weights
from model.registry import open_checkpoint
from model.request import Picture
from model.runtime.generate import generate
from model.training.start import start_training
from tests.emoji_sets import make_set
from tests.tiny import ABOUT, tiny_flow, tiny_knowing_flow, with_sampling
from tests.training import Listener, tiny_training

TEXT = TextConfig(vocabulary=300, width=32, depth=1, heads=2)
COUNTS = (7, 3, 4)
KNOWN = Concepts(symbols=("1f34e", "1f680"), tones=("dark",), styles=("fluent 3d", "noto"))


@pytest.fixture
def memory() -> ConceptMemory:
    torch.manual_seed(0)
    return ConceptMemory(COUNTS, TEXT).requires_grad_(False)


def meaning(memory: ConceptMemory, numbers: torch.Tensor) -> torch.Tensor:
    """An encoder's output [B, summary, W] that means these concepts [B, kinds] beyond doubt."""
    encoded = torch.randn(len(numbers), TEXT.summary, TEXT.width)
    kinds = memory.keys.split(memory.counts)
    for token, (keys, chosen) in enumerate(zip(kinds, numbers.T, strict=True)):
        keys.copy_(keys / keys.norm(dim=1, keepdim=True))
        encoded[:, token] = 1000 * keys[chosen]
    return encoded


@torch.no_grad()
def test_a_prompt_of_sharp_logits_reads_what_its_numbers_give(memory: ConceptMemory) -> None:
    numbers = torch.tensor([(1, 2, 3), (6, 0, 1), (0, 0, 0), (0, 0, 3)])
    encoded = meaning(memory, numbers)
    logits = memory.logits(encoded)
    assert [one.shape for one in logits] == [(4, count) for count in COUNTS]
    assert torch.equal(torch.stack([one.argmax(1) for one in logits], 1), numbers)
    expected = memory.of_numbers(numbers)
    assert expected.shape == (4, TEXT.summary, TEXT.width)
    torch.testing.assert_close(memory(encoded), expected)
    assert len({tuple(one.flatten().tolist()) for one in expected}) == 4  # also without a symbol


@torch.no_grad()
def test_a_prompt_in_doubt_reads_the_mean_of_values(memory: ConceptMemory) -> None:
    for parameter in memory.blocks.parameters():
        parameter.zero_()
    encoded = torch.zeros(1, TEXT.summary, TEXT.width)
    torch.testing.assert_close(memory(encoded), memory.first.mean(0, keepdim=True))


@torch.no_grad()
def test_a_prompt_in_doubt_reads_the_likeliest_where_it_is_told_to(memory: ConceptMemory) -> None:
    """One of each kind; what the others are makes no difference then."""
    encoded = meaning(memory, torch.tensor([(1, 2, 3), (6, 0, 1)])) / 1000
    expected = memory.of_numbers(torch.tensor([(1, 2, 3), (6, 0, 1)]))
    assert torch.equal(memory(encoded, likeliest=True), expected)
    assert not torch.isclose(memory(encoded), expected).all()
    memory.first[[0, 2, 3, 4, 5]] += 1
    assert torch.equal(memory(encoded, likeliest=True), expected)


@pytest.mark.parametrize("counts", [(0,), (3, -1), (1, 2, 3, 4, 5)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at most 4 numbers above 0 are accepted"):
        FlowConfig(concepts=counts)


def test_a_config_keeps_its_concepts_and_is_as_it_was_without() -> None:
    plain = FlowCheckpointConfig(network=FlowConfig(), **ABOUT)
    assert "concepts" not in plain.model_dump_json()
    network = replace(plain.network, concepts=COUNTS)
    text = plain.model_copy(update={"network": network}).model_dump_json()
    assert '"concepts":[7,3,4]' in text
    assert FlowCheckpointConfig.model_validate_json(text).network == network


def test_the_likeliest_can_only_be_read_where_there_are_concepts() -> None:
    with pytest.raises(ValueError, match="likeliest is for networks with concepts"):
        FlowCheckpointConfig(network=FlowConfig(), sampling=SamplingConfig(likeliest=True), **ABOUT)


def drawn(folder: Path, dtype: Dtype, prompts: list[str]) -> list[Picture]:
    """Images of the prompts, in one batch."""
    model = load_model(open_checkpoint(folder), device="cpu", dtype=dtype, tile=8)
    return list(generate(model, [model.spec.request(text, 1, steps=2) for text in prompts]))


def test_prompts_are_read_through_the_memory(tmp_path: Path) -> None:
    folder = tiny_knowing_flow(tmp_path / "knowing", KNOWN)
    [before] = drawn(folder, "fp32", ["red apple"])
    weights = load_file(folder / "model.safetensors")
    weights["reader.concepts.first"] *= -1
    save_file(weights, folder / "model.safetensors")
    assert drawn(folder, "fp32", ["red apple"]) != [before]


def test_a_checkpoint_draws_the_likeliest_concepts(tmp_path: Path) -> None:
    """Weights of the memory that differ, but not which key is nearest, draw the same."""
    folder = tiny_knowing_flow(tmp_path / "knowing", KNOWN)
    [mixed] = drawn(folder, "fp32", ["red apple"])
    [before] = drawn(with_sampling(folder, likeliest=True), "fp32", ["red apple"])
    assert before != mixed
    weights = load_file(folder / "model.safetensors")
    weights["reader.concepts.keys"] *= 0.5
    save_file(weights, folder / "model.safetensors")
    assert drawn(folder, "fp32", ["red apple"]) == [before]


@pytest.mark.parametrize("likeliest", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_it_is_served_seed_exact(tmp_path: Path, dtype: Dtype, likeliest: bool) -> None:
    folder = tiny_knowing_flow(tmp_path / "knowing", KNOWN)
    if likeliest:
        with_sampling(folder, likeliest=True)
    prompts = ["red apple", "", "绿色圆形", "a grinning face with big eyes"]
    alone = [drawn(folder, dtype, [text])[0] for text in prompts]
    assert len(set(alone)) >= (2 if likeliest else 4)  # untrained, it means the same by some
    for order in itertools.islice(itertools.permutations(range(4)), 0, None, 7):
        assert drawn(folder, dtype, [prompts[i] for i in order]) == [alone[i] for i in order]
    model = load_model(open_checkpoint(folder), device="cpu", dtype=dtype, tile=4)
    assert examine(model).seed_exact


def test_training_that_begins_with_it_keeps_its_concepts(tmp_path: Path) -> None:
    """Else ``--init`` would read prompts without the memory, and draw something else."""
    folder = tiny_knowing_flow(tmp_path / "knowing", KNOWN)
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple", "1f680": "rocket"})
    options = tiny_training(data, tmp_path / "run", init=folder, depth=2, steps=2, average=0.0)
    listener = Listener()
    out = start_training(options, listener)
    [note] = [note for note in listener.notes if note.startswith("took over")]
    assert "reader.concepts" not in note
    checkpoint = open_checkpoint(out)
    assert isinstance(checkpoint, FlowCheckpoint)
    assert checkpoint.config.network.concepts == KNOWN.counts
    before, after = (load_weights(one / "model.safetensors") for one in (folder, out))
    for name in ("reader.concepts.keys", "reader.concepts.first", "reader.encoder.summary"):
        assert not torch.equal(before[name], after[name]), name  # all of it learns from prompts
        torch.testing.assert_close(before[name], after[name], atol=1e-3, rtol=1e-2)
    # A run that goes on knows them without the start, and one that begins with nothing has none.
    on = Listener()
    start_training(replace(options, init=None, steps=3), on)
    assert len(on.losses) == 1
    plain = tiny_training(data, tmp_path / "plain", init=tiny_flow(tmp_path / "flow"), steps=1)
    trained = open_checkpoint(start_training(plain, Listener()))
    assert isinstance(trained, FlowCheckpoint)
    assert trained.config.network.concepts == ()


def test_a_gan_may_begin_with_it_too(tmp_path: Path) -> None:
    folder = tiny_knowing_flow(tmp_path / "knowing", KNOWN)
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple", "1f680": "rocket"})
    listener = Listener()
    options = tiny_training(
        data, tmp_path / "run", family="gan", init=folder, depth=2, steps=1, learning_rate=1e-4
    )
    checkpoint = open_checkpoint(start_training(options, listener))
    assert isinstance(checkpoint, GanCheckpoint)
    assert checkpoint.config.network.concepts == KNOWN.counts
    [note] = [note for note in listener.notes if note.startswith("took over")]
    assert "reader.concepts" not in note
