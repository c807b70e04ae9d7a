"""If these fail, a run on a GPU trains another network than `tessera train` would, or none.

Graphs need a GPU; what they are made of is tested here.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from model.data import load
from model.data.pictures import PictureFormat
from model.layers import Attention, rotary_table
from model.loading import load_weights
from model.registry import open_checkpoint
from model.tokenizer import PADDING
from model.training.optimizer import OptimizerConfig, optimizers, split
from tests.emoji_sets import MANY, make_set
from tests.tiny import tiny_flow
from tools import flow_on_gpu
from tools.flow_on_gpu import BLOCK, TRAINING, Muon, fused_attention, make_block, rate_at


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


def test_a_block_has_images_with_their_prompts(tmp_path: Path) -> None:
    data = load([make_set(tmp_path / "emoji", "noto", MANY)], PictureFormat(16))
    tokenizer = open_checkpoint(tiny_flow(tmp_path / "flow")).tokenizer  # type: ignore[attr-defined]
    block = make_block(data, tokenizer, 8, random.Random(0))
    assert block.rows.shape == (BLOCK, 8)
    assert block.tokens.shape == (BLOCK, 8, TRAINING.prompt_tokens)
    assert set(block.rows.flat) == set(range(len(data)))
    empty = (block.tokens == PADDING).all(-1).mean()
    assert 0.05 < empty < 0.16
    again = make_block(data, tokenizer, 8, random.Random(0))
    assert (block.rows == again.rows).all()
    assert (block.tokens == again.tokens).all()


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    config = OptimizerConfig(1.0, cooldown=0.5)
    assert rate_at(0, 0.0, config) == pytest.approx(1 / 200)
    assert rate_at(5000, 0.5, config) == 1.0
    assert rate_at(5000, 0.75, config) == pytest.approx(0.5)
    assert rate_at(5000, 1.0, config) == 0.0


def test_it_writes_a_checkpoint_that_draws_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attention, "forward", Attention.forward)  # taken back afterwards
    sets, init = make_set(tmp_path / "emoji", "noto", MANY), tiny_flow(tmp_path / "flow")
    out = tmp_path / "out"
    losses: list[float] = []
    taking = flow_on_gpu.GraphedTraining.take_loss

    def take_loss(self: flow_on_gpu.GraphedTraining) -> float:
        losses.append(taking(self))
        return losses[-1]

    monkeypatch.setattr(flow_on_gpu.GraphedTraining, "take_loss", take_loss)
    app = typer.Typer()
    app.command()(flow_on_gpu.main)
    given = f"{sets} --init {init} -o {out} --steps 192 --batch 8 --processes 1"
    given += " --device cpu --no-compile"
    result = CliRunner().invoke(app, given.split())
    assert result.exit_code == 0, result.output
    assert losses[2] < 0.8 * losses[0]
    before, after = (load_weights(folder / "model.safetensors") for folder in (init, out))
    assert before.keys() == after.keys()
    assert open_checkpoint(out).spec.sizes == open_checkpoint(init).spec.sizes
    assert any(not torch.equal(before[name], after[name]) for name in before)
