"""What prompts mean is learned without images: a flow must then draw what their numbers ask for."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from model.data.concepts import Concepts
from model.data.emoji import Emoji, read_records, select
from model.flow.network import FlowTransformer
from model.loading import load_weights
from model.tokenizer import PADDING
from model.training.recipe import Start
from tests.emoji_sets import make_set
from tests.tiny import TOKENIZER, tiny_knowing_flow
from tools import concept_reader
from tools.concept_flow import load_network, open_knowing
from tools.concept_reader import SHARPNESS, TOKENS, PromptSampling, batches, thinned

NAMES = {"1f34e": "red apple", "1f680": "blue square", "1f436": "big eyes", "1f419": "grin"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One symbol is in one style only."""
    folder = tmp_path_factory.mktemp("sets")
    few = {codepoints: name for codepoints, name in NAMES.items() if codepoints != "1f419"}
    return [
        make_set(folder / "twemoji", "twemoji", NAMES),
        make_set(folder / "fluent-3d", "fluent 3d", few),
    ]


@pytest.fixture(scope="module")
def records(sets: list[Path]) -> list[Emoji]:
    return select(read_records(sets), "train")


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory, records: list[Emoji]) -> Path:
    return tiny_knowing_flow(tmp_path_factory.mktemp("begun") / "flow", Concepts.of(records))


def read(flow: Path, sets: list[Path], out: Path, *given: object) -> str:
    """What the tool prints."""
    app = typer.Typer()
    app.command()(concept_reader.main)
    options = [flow, *sets, "-o", out, *given]
    result = CliRunner().invoke(app, [str(option) for option in options])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory, flow: Path, sets: list[Path]
) -> tuple[Path, str]:
    """A flow that has learned the sets' prompts, and what was printed meanwhile."""
    out = tmp_path_factory.mktemp("learned") / "out"
    given = ("--steps", 200, "--batch", 64, "--learning-rate", 3e-3, "--average", 0.95)
    with pytest.MonkeyPatch.context() as patch:
        # What few prompts are is learned within the test's few steps, too.
        patch.setattr(concept_reader, "NO_PROMPT", 0.05)
        patch.setattr(concept_reader, "STYLE_ALONE", 0.2)
        return out, read(flow, sets, out, *given)


@torch.no_grad()
def meant(network: FlowTransformer, prompts: list[str]) -> list[tuple[int, ...]]:
    """The numbers that each prompt is most likely to mean."""
    reader = network.reader
    assert reader.concepts is not None
    logits = reader.concepts.logits(reader.encoder(Start(TOKENIZER).tokens(prompts, TOKENS)))
    return [tuple(row) for row in torch.stack([one.argmax(1) for one in logits], 1).tolist()]


def test_it_learns_what_prompts_mean(learned: tuple[Path, str], records: list[Emoji]) -> None:
    checkpoint, concepts = open_knowing(learned[0])
    network = load_network(checkpoint)
    assert meant(network, [one.caption for one in records]) == list(map(concepts.numbers, records))
    # Without a style they mean the preferred one, of those that the symbol is in.
    fluent, twemoji = (concepts.styles.index(style) + 1 for style in ("fluent 3d", "twemoji"))
    apple, grin = (concepts.symbols.index(base) + 1 for base in ("1f34e", "1f419"))
    unstyled = meant(network, ["red apple", "grin"])
    assert unstyled == [(apple, 0, fluent), (grin, 0, twemoji)]
    # It is in no set of that style.
    assert meant(network, ["grin, fluent 3d style"]) == [(grin, 0, fluent)]
    assert meant(network, ["fluent 3d style", "twemoji 风格"]) == [(0, 0, fluent), (0, 0, twemoji)]
    assert meant(network, [""]) == [(0, 0, 0)]


def test_weights_and_images_by_number_stay_as_they_are(
    learned: tuple[Path, str], flow: Path
) -> None:
    before, after = (load_weights(one / "model.safetensors") for one in (flow, learned[0]))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "reader.concepts.keys" in moved
    assert all(name.startswith("reader.encoder.") for name in moved - {"reader.concepts.keys"})
    assert Concepts.load(flow) == Concepts.load(learned[0])


def test_the_loss_is_printed_where_there_is_no_terminal(learned: tuple[Path, str]) -> None:
    lines = [line for line in learned[1].splitlines() if line.startswith("step ")]
    step, loss = lines[-1].removeprefix("step ").split(": loss ")
    assert step == "200"
    assert float(loss) < 1


def test_a_second_run_begins_where_the_first_one_ended(
    tmp_path: Path, learned: tuple[Path, str], sets: list[Path]
) -> None:
    """Keys that were made sharper once more at each run would make prompts ever more certain."""
    read(learned[0], sets, tmp_path / "again", "--steps", 1, "--learning-rate", 0)
    before, after = (
        load_weights(one / "model.safetensors") for one in (learned[0], tmp_path / "again")
    )
    name = "reader.concepts.keys"
    torch.testing.assert_close(before[name], after[name])
    assert SHARPNESS != 1


def test_prompts_of_nothing_and_of_a_style_alone(records: list[Emoji]) -> None:
    sampling = PromptSampling.of(records, Concepts.of(records), TOKENIZER)
    batch = sampling.batch(4000, random.Random(0))
    assert batch.tokens.shape == (4000, TOKENS)
    empty = (batch.tokens == PADDING).all(1)
    assert 0 < empty.sum() < 60
    assert (batch.numbers[empty] == 0).all()
    assert (batch.numbers[~empty][:, 2] > 0).all()  # every prompt is drawn in a style
    alone = (batch.numbers[:, 0] == 0) & ~empty
    assert 0 < alone.sum() < 100
    names = ("twemoji", "twemoji style", "twemoji 风格", "fluent 3d style", "fluent 3d 风格")
    spelled = {token for row in TOKENIZER.tokens_of_all(names) for token in row}
    assert set(batch.tokens[alone].flat) <= {PADDING, *spelled}
    counted = Counter(batch.numbers[batch.numbers[:, 0] > 0, 0].tolist())
    assert len(counted) == 4
    assert max(counted.values()) < 2 * min(counted.values())


def test_tokens_are_left_out_but_never_all() -> None:
    draw = random.Random(0)
    rows = [thinned([5, 6, 7, 8], draw) for _ in range(1000)]
    assert 0.02 < 1 - sum(map(len, rows)) / 4000 < 0.08
    assert all(set(row) <= {5, 6, 7, 8} and row == sorted(row) for row in rows)
    assert all(thinned([5], draw) == [5] for _ in range(100))
    assert thinned([], draw) == []


def test_batches_do_not_depend_on_the_processes_speed(records: list[Emoji]) -> None:
    sampling = PromptSampling.of(records, Concepts.of(records), TOKENIZER)
    with batches(sampling, 8, 2) as made:
        first = [next(made) for _ in range(4)]
    with batches(sampling, 8, 2) as made:
        again = [next(made) for _ in range(4)]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.numbers, other.numbers)
    assert not np.array_equal(first[0].tokens, first[1].tokens)


def test_each_word_that_means_a_symbol_is_asked_for_as_often(
    records: list[Emoji], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concept_reader, "MEANINGS", 1.0)
    sampling = PromptSampling.of(records, Concepts.of(records), TOKENIZER)
    meanings = {record.base: record.meanings for record in records}
    assert len(meanings["1f436"]) > len(meanings["1f680"]) > 0
    draw = random.Random(0)
    asked = Counter(sampling.batch(4000, draw).numbers[:, 0].tolist())
    symbols = sorted(meanings)
    total = sum(map(len, meanings.values()))
    shares = {symbol: asked[number] / 4000 for number, symbol in enumerate(symbols, 1)}
    wanted = {symbol: pytest.approx(len(meanings[symbol]) / total, abs=0.025) for symbol in symbols}
    assert shares == wanted
    prompt, numbers = sampling._meant(draw)
    assert numbers.symbol > 0
    assert any(text in prompt for texts in meanings.values() for text in texts)
