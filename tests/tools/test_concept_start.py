"""A flow that is given concepts must begin with all that the old one could draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner, Result

from model.data.concepts import NOTHING, Concepts
from model.data.emoji import read_records, select
from model.flow.concepts import ConceptMemory
from model.flow.config import FlowCheckpointConfig, FlowConfig, TextConfig
from model.flow.network import FlowTransformer
from model.loading import load_weights, save_checkpoint
from model.training.recipe import Start
from tests.emoji_sets import make_set
from tests.tiny import ABOUT, TOKENIZER, tiny_gpt
from tests.training import make_vectors
from tools import concept_start
from tools.concept_flow import load_network, open_flow, open_knowing
from tools.concept_start import begin, grown, learn, prompts_of

OLD = FlowConfig(
    image_size=16,
    patch_size=4,
    width=32,
    depth=2,
    heads=1,
    layout_width=16,
    text=TextConfig(vocabulary=300, width=32, depth=1, heads=1),
)
NEW = replace(
    OLD,
    depth=5,
    detail_width=8,
    polish_channels=3,
    concepts=(3, 1, 3),
    text=replace(OLD.text, vocabulary=400, frozen_channels=8),
)
NAMES = {"1f34e": "red apple", "1f680": "rocket", "1f436": "dog", "1f419": "octopus"}


@pytest.fixture
def old() -> FlowTransformer:
    """None of its weights is zero."""
    torch.manual_seed(0)
    network = FlowTransformer(OLD)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.requires_grad_(False)


def test_a_grown_network_draws_what_the_old_one_did(old: FlowTransformer) -> None:
    new = FlowTransformer(NEW).requires_grad_(False)
    new.load_state_dict(grown(old.state_dict(), OLD, new))
    noisy, time = torch.randn(3, 4, 16, 16), torch.tensor([0.1, 0.5, 0.9])
    summary = torch.randn(3, 4, 32)
    drawn = [
        network.denoise(noisy, time, network.reader.prepared(summary)) for network in (old, new)
    ]
    assert torch.equal(*drawn)
    # All but its embeddings, which are another tokenizer's, reads as the old one did.
    new.reader.encoder.embedding = old.reader.encoder.embedding
    tokens = torch.randint(1, 300, (2, 5))
    assert torch.equal(new.reader.encoder(tokens), old.reader.encoder(tokens))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 1}, "depth 1 is less than the 2 blocks that it has"),
        ({"width": 64}, r"reader\.prefix\.weight is \[32, 32\], the new network has \[64, 32\]"),
        ({"patch_size": 8}, r"is \[\d+, \d+\], the new network has \[\d+, \d+\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    old: FlowTransformer, change: dict[str, int], message: str
) -> None:
    new = FlowTransformer(replace(NEW, **change))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        grown(old.state_dict(), OLD, new)


@pytest.fixture
def flow(tmp_path: Path, old: FlowTransformer) -> Path:
    """A checkpoint of the old network."""
    text = replace(OLD.text, vocabulary=TOKENIZER.vocabulary)
    config = FlowCheckpointConfig(network=replace(OLD, text=text), **ABOUT)
    network = FlowTransformer(config.network)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    save_checkpoint(tmp_path / "flow", config, network.state_dict(), TOKENIZER)
    return tmp_path / "flow"


@pytest.fixture
def sets(tmp_path: Path) -> list[Path]:
    styles = ("noto", "twemoji", "fluent 3d", "fluent flat")
    return [make_set(tmp_path / style.replace(" ", "-"), style, NAMES) for style in styles]


def test_styles_that_the_old_flow_did_not_know_begin_as_one_that_it_did(sets: list[Path]) -> None:
    records = [record for record in read_records(sets) if record.name == "rocket"]
    concepts = Concepts.of(records)
    prompts = prompts_of(records, concepts)
    noto, twemoji, fluent, flat = (prompts[concepts.numbers(record)] for record in records)
    assert noto == twemoji == "rocket, noto style"
    assert fluent == flat == "rocket, fluent 3d style"
    assert prompts[concepts.numbers(records[0])._replace(style=0)] == "rocket"
    assert prompts[NOTHING] == ""


def test_a_memory_learns_what_the_old_encoder_read(flow: Path, sets: list[Path]) -> None:
    records = select(read_records(sets), "train")
    concepts = Concepts.of(records)
    prompts = prompts_of(records, concepts)
    checkpoint = open_flow(flow)
    with torch.no_grad():
        tokens = Start(checkpoint.tokenizer).tokens(list(prompts.values()), 24)
        wanted = load_network(checkpoint).reader.encoder(tokens)
    memory = ConceptMemory(concepts.counts, checkpoint.config.network.text)
    begin(memory, list(prompts), wanted)
    plain = [at for at, numbers in enumerate(prompts) if numbers.style == 0]
    with torch.no_grad():
        read = memory.of_numbers(torch.tensor(list(prompts))[plain])
    torch.testing.assert_close(read, wanted[plain])  # before anything is learned
    assert learn(memory, list(prompts), wanted, steps=150, batch=32) < 0.05


def run(*given: object) -> Result:
    app = typer.Typer()
    app.command()(concept_start.main)
    return CliRunner().invoke(app, [str(one) for one in given])


def test_one_command_writes_a_flow_that_knows_the_sets(
    tmp_path: Path, flow: Path, sets: list[Path]
) -> None:
    vectors = make_vectors(tmp_path / "vectors", ["red", "apple", "rocket", "dog"])
    out, rest = tmp_path / "out", ("--vectors", tmp_path / "vectors", "-o", tmp_path / "out")
    small = ("--size", 16, "--patch", 4, "--depth", 3, "--steps", 2)
    result = run(flow, *sets, *rest, *small)
    assert result.exit_code == 0, result.output
    checkpoint, concepts = open_knowing(out)
    assert concepts == Concepts.of(select(read_records(sets), "train"))
    assert checkpoint.config.network.depth == 3
    assert checkpoint.config.sampling.likeliest
    codes = load_weights(out / "model.safetensors")["reader.encoder.embedding.codes"]
    assert torch.equal(codes, vectors["codes"])
    for begun, options, message in (
        (tiny_gpt(tmp_path / "gpt"), small, "is a gpt, not a flow"),
        (out, small, "knows concepts already"),
        (flow, (*small, "--depth", 1), "cannot be the beginning: depth 1 is less than"),
        (flow, (*small, "--patch", 5), "must be a multiple of patch_size 5"),
    ):
        result = run(begun, *sets, *rest, *options)
        assert result.exit_code == 1
        assert message in result.output
