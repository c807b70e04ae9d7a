"""`tessera train`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from model.training.choices import Choices
from model.training.progress import ProgressReport
from model.training.recipe import TrainingOptions
from tests.cli.conftest import Refusal


def test_a_folder_without_images_cannot_train(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, f"train {tmp_path} -o {tmp_path / 'run'}")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]  # after the progress bar
    assert line.startswith("error: ")
    assert "no usable " in line


def test_what_is_not_known_cannot_be_trained(refused: Refusal, tmp_path: Path) -> None:
    assert refused(f"train {tmp_path} --family vae").startswith("--family vae was given, there ")


def test_what_the_options_say_reaches_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[TrainingOptions] = []

    def start(options: TrainingOptions, progress: ProgressReport) -> Path:
        given.append(options)
        progress.note("[left] as it is")
        return options.out / "checkpoint"

    monkeypatch.setattr("model.training.start.start_training", start)
    options = "--init emoji-flow --vocabulary 8192 --average 0.999 --detail-width 512 --new-data"
    options += " --minutes 3 --size 32 --no-compile"
    line = f"train {tmp_path} {options} --polish-channels 16 -o {tmp_path}/runs/[mine]"
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0
    assert "[left] as it is" in result.stderr
    assert result.stdout == f"{tmp_path}/runs/[mine]/checkpoint\n"
    assert given[0].init == Path("emoji-flow")
    assert (given[0].vocabulary, given[0].average) == (8192, 0.999)
    assert (given[0].detail_width, given[0].polish_channels) == (512, 16)
    assert given[0].new_data
    assert given[0].given == Choices(minutes=3, size=32, compiled=False)


def test_an_interrupted_run_ends_with_the_signals_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that what comes after it in a script does not take it for done."""

    def start(options: TrainingOptions, progress: ProgressReport) -> Path:
        progress.interrupted(15)
        return options.out / "checkpoint"

    monkeypatch.setattr("model.training.start.start_training", start)
    assert CliRunner().invoke(cli, f"train {tmp_path} -o {tmp_path}").exit_code == 143
