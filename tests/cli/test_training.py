"""`tessera train`."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from app.cli import cli
from tests.cli.conftest import Refusal


def test_a_folder_without_images_cannot_train(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, f"train {tmp_path} -o {tmp_path / 'run'}")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]  # after the progress bar
    assert line.startswith("error: ")
    assert "no usable " in line


def test_what_is_not_known_cannot_be_trained(refused: Refusal, tmp_path: Path) -> None:
    assert refused(f"train {tmp_path} --family vae").startswith("--family vae was given, there ")
