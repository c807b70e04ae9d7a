"""The training of the encoder: without it, figures over sets of images would mean nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import typer
from typer.testing import CliRunner

from model.data.emoji import read_pictures, read_records
from model.evaluation.metrics import load_encoder, save_encoder
from model.request import Picture
from tests.emoji_sets import make_set
from tools import encoder as tool
from tools.encoder import EncoderTraining, counterparts_found, moved, train_encoder


def test_an_encoder_learns_to_tell_symbols_apart_and_is_kept(tmp_path: Path) -> None:
    """1f305 and 1f338, by sha256, are held out of the second style."""
    names = {"1f34e": "red apple", "1f680": "rocket", "1f305": "sunrise", "1f436": "dog"}
    folders = [
        make_set(tmp_path / style, style, names if style == "noto" else {"1f305": "sunrise"})
        for style in ("noto", "fluent 3d")
    ]
    losses: list[float] = []
    encoder = train_encoder(folders, EncoderTraining(steps=25, batch=8), losses.append)
    assert losses[-1] < losses[0] / 2
    found = counterparts_found(encoder, folders)
    assert found is not None
    assert found.of == 1
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    record = read_records(folders)[:1]
    [image] = read_pictures(record)
    picture = Picture(32, 32, 4, image.tobytes())
    kept = load_encoder(tmp_path / "encoder.safetensors").features([picture])
    np.testing.assert_allclose(kept, encoder.features([picture]), atol=0.05)


def test_what_comes_into_a_moved_picture_is_white() -> None:
    torch.manual_seed(0)
    assert torch.allclose(moved(torch.ones(4, 3, 16, 16)), torch.ones(4, 3, 16, 16), atol=1e-6)
    dark = moved(-torch.ones(32, 3, 16, 16))
    assert dark.max() == 1
    assert dark.min() == -1


def test_one_command_trains_and_keeps_it(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(tool.main)
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple", "1f680": "rocket"})
    out = tmp_path / "encoder.safetensors"
    result = CliRunner().invoke(app, f"{data} -o {out} --steps 1")
    assert result.exit_code == 0, result.output
    load_encoder(out)
    result = CliRunner().invoke(app, f"{tmp_path / 'nothing'} -o {out} --steps 1")
    assert result.exit_code == 1
    assert "captions.jsonl: missing" in result.output
