"""If these fail, a run on a GPU trains another network than `tessera train` would, or none.

Graphs need a GPU; what they are made of is tested here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.cli.console import UserError
from model.checkpoint import load_captions, save_captions
from model.data import load
from model.data.concepts import Concepts
from model.data.emoji import read_records, select
from model.data.pictures import PictureFormat
from model.layers import Attention, rotary_table
from model.loading import load_weights
from model.registry import open_checkpoint
from model.training.optimizer import OptimizerConfig, optimizers, split
from tests.commands import tool
from tests.emoji_sets import MANY, make_set
from tests.tiny import tiny_flow, tiny_knowing_flow
from tools import flow_on_gpu
from tools.flow_on_gpu import (
    NO_PROMPT,
    NO_STYLE,
    STYLE_ALONE,
    Sampling,
    fused_attention,
    in_parts,
)
from tools.graphed import BLOCK, GraphedSteps, Muon


def test_muon_moves_matrices_as_torchs_does() -> None:
    torch.manual_seed(0)
    shapes = [(40, 24), (24, 60), (40, 24), (16, 16)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(matrix.detach().clone()) for matrix in ours]
    rate = torch.tensor(1e-2)
    muons = Muon.of(ours, rate)
    assert sorted(len(muon.matrices) for muon in muons) == [1, 1, 2]
    other = torch.optim.Muon(theirs, 1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for new in (1e-2, 1e-2, 5e-3):
        rate.fill_(new)
        other.param_groups[0]["lr"] = new
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            its.grad = mine.grad.clone()
        for muon in muons:
            muon.step()
        other.step()
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_the_same_weights_go_to_muon() -> None:
    network = nn.ModuleDict(
        {"blocks": nn.ModuleList([nn.Linear(4, 4)]), "modulation": nn.Linear(4, 8)}
    )
    matrices, others = split(network)
    muon, adamw = optimizers(network, OptimizerConfig())
    assert [id(one) for one in matrices] == [id(one) for one in muon.param_groups[0]["params"]]
    assert [id(one) for one in others] == [id(one) for one in adamw.param_groups[0]["params"]]


@pytest.mark.parametrize("hidden", [0, 5])
def test_attention_in_one_kernel_is_attention(hidden: int) -> None:
    torch.manual_seed(0)
    attention, x = Attention(64, 4), torch.randn(3, 20, 64)
    table = rotary_table(torch.arange(20)[:, None], 16)
    bias = None
    if hidden:
        bias = torch.zeros(3, 1, 20)
        bias[:, :, -hidden:] = -30_000.0
    torch.testing.assert_close(
        fused_attention(attention, x, table, bias), attention(x, table, bias)
    )


def test_a_block_has_images_with_their_numbers(tmp_path: Path) -> None:
    sets = [make_set(tmp_path / "emoji", "noto", MANY)]
    data = load(sets, PictureFormat(16))
    records = select(read_records(sets), "train")
    assert [record.caption for record in records] == list(data.captions)  # in the same order
    concepts = Concepts.of(records)
    known = np.array([concepts.numbers(record) for record in records], np.int32)
    known[:, 1] = 1  # as if all were in a skin tone, to see where it is left out
    block = Sampling([(data, 1.0)], known, 40, np.random.default_rng(0)).block()
    assert block.rows.shape == (BLOCK, 40)
    assert block.numbers.shape == (BLOCK, 40, 3)
    assert set(block.rows.flatten().tolist()) == set(range(len(data)))
    given, images = block.numbers.flatten(0, 1).numpy(), known[block.rows.flatten()]
    assert ((given == images) | (given == 0)).all()
    said = (given > 0) @ [4, 2, 1]
    assert set(said) == {0, 1, 6, 7}
    shares = [(said == kind).mean() for kind in (0, 1, 6)]
    assert shares == pytest.approx([NO_PROMPT, STYLE_ALONE, NO_STYLE], rel=0.3)
    again = Sampling([(data, 1.0)], known, 40, np.random.default_rng(0)).block()
    assert torch.equal(block.rows, again.rows)
    assert torch.equal(block.numbers, again.numbers)


def test_of_what_styles_lack_a_share_is_taken(tmp_path: Path) -> None:
    """More than its number says, from the first step of a block to the last."""
    real = make_set(tmp_path / "real", "noto", MANY)
    drawn = make_set(tmp_path / "drawn", "blob", dict(list(MANY.items())[:4]), synthetic=True)
    data = load([real, drawn], PictureFormat(16))
    records = select(read_records([real, drawn]), "train")
    assert in_parts(data, records, None) == [(data, 1.0)]
    numbers = np.zeros((len(data), 3), np.int32)
    parts = in_parts(data, records, 0.7)
    rows = Sampling(parts, numbers, 40, np.random.default_rng(0)).block().rows
    synthetic = torch.tensor([record.synthetic for record in records])[rows]
    assert synthetic.float().mean() == pytest.approx(0.7, abs=0.03)
    for half in synthetic.chunk(2):
        assert half.float().mean() == pytest.approx(0.7, abs=0.05)
    assert set(rows.flatten().tolist()) == set(range(len(data)))
    with pytest.raises(UserError, match="must have real and synthetic images"):
        in_parts(load([real], PictureFormat(16)), select(read_records([real]), "train"), 0.7)


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    config = OptimizerConfig(1.0, cooldown=0.5)
    assert config.rate_at(0, 0.0) == pytest.approx(1 / 200)
    assert config.rate_at(0, 0.1) == pytest.approx(1 / 200)  # capturing a graph took time
    assert config.rate_at(5000, 0.5) == 1.0
    assert config.rate_at(5000, 0.75) == pytest.approx(0.5)
    assert config.rate_at(5000, 1.0) == 0.0


command = partial(tool, flow_on_gpu.main)


def test_it_writes_a_checkpoint_that_draws_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as little as a bit of what reads prompts may move: it was trained apart."""
    monkeypatch.setattr(Attention, "forward", Attention.forward)  # taken back afterwards
    sets = make_set(tmp_path / "emoji", "noto", MANY)
    concepts = Concepts.of(read_records([sets]))
    init, out = tiny_knowing_flow(tmp_path / "flow", concepts), tmp_path / "out"
    save_captions(init, ["thing 1", "thing 2"])
    losses: list[float] = []
    taking = GraphedSteps.take_loss

    def take_loss(self: GraphedSteps) -> float:
        losses.append(taking(self))
        return losses[-1]

    monkeypatch.setattr(GraphedSteps, "take_loss", take_loss)
    command(f"{sets} --init {init} -o {out} --steps 320 --batch 8 --device cpu --no-compile")
    assert losses[4] < 0.8 * losses[0]
    before, after = (load_weights(folder / "model.safetensors") for folder in (init, out))
    assert before.keys() == after.keys()
    assert open_checkpoint(out).spec.sizes == open_checkpoint(init).spec.sizes
    assert Concepts.load(out) == concepts
    assert load_captions(out) == ["thing 1", "thing 2"]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "reader.concepts.first" in moved
    assert "reader.concepts.keys" not in moved
    assert not any(name.startswith("reader.encoder.") for name in moved)


def test_a_flow_that_knows_no_concepts_is_refused(tmp_path: Path) -> None:
    sets = make_set(tmp_path / "emoji", "noto", MANY)
    plain = tiny_flow(tmp_path / "flow")
    with pytest.raises(AssertionError, match="is no flow that knows concepts"):
        command(f"{sets} --init {plain} -o {tmp_path / 'out'} --steps 1 --device cpu")
    other = Concepts.of(read_records([sets])[:3])
    knowing = tiny_knowing_flow(tmp_path / "knowing", other)
    given = f"{sets} --init {knowing} -o {tmp_path / 'out'} --steps 1 --device cpu"
    with pytest.raises(AssertionError, match="is no symbol, skin tone or style"):
        command(given)
    Concepts.of(read_records([sets])[:2]).save(knowing)
    with pytest.raises(AssertionError, match="the network has"):
        command(given)
    (knowing / "concepts.json").unlink()
    with pytest.raises(AssertionError, match=r"concepts\.json: missing"):
        command(given)
