"""``python -m tools.evaluate``: reports are written, or one line says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.emoji_sets import make_set
from tests.tiny import tiny_flow, tiny_gan
from tools.evaluate import evaluation


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def refusal(arguments: str) -> str:
    """The line that says why not."""
    result = CliRunner().invoke(evaluation, arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")


def test_transforms_are_evaluated(tmp_path: Path) -> None:
    """By sha256, 1f305 is one of the symbols whose Fluent image is held out."""
    model = tiny_flow(tmp_path / "tiny-flow")
    seen = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    command = f"transform --model {model} -o report -n 2 --steps 2"
    assert refusal(f"{command} {seen}") == "none of these images is held out of training"
    unseen = make_set(tmp_path / "fluent", "fluent 3d", {"1f305": "a thing"})
    result = CliRunner().invoke(evaluation, f"{command} {seen} {unseen}")
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"transform.json", "transform.md", "transform.png"}
    assert "2 steps, guidance 1, " in result.stdout  # 1 where it is not given


def test_counts_of_steps_are_compared(tmp_path: Path) -> None:
    names = {f"1f34{digit}": f"fruit {digit}" for digit in "0123456789ab"}
    data = make_set(tmp_path / "noto", "noto", names)
    command = (
        f"steps {data} --model {tiny_flow(tmp_path / 'tiny-flow')} --counts 2,3 -n 8 -o report"
    )
    result = CliRunner().invoke(evaluation, command)
    assert result.exit_code == 0, result.output
    first, second = json.loads((tmp_path / "report" / "steps.json").read_text())["lines"]
    assert (first["steps"], first["evaluations"]) == (2, 4)  # with guidance
    assert (second["steps"], second["evaluations"]) == (3, 6)
    assert first["found"]["of"] == 8
    assert first["mse"] != second["mse"]
    gan = f"--model {tiny_gan(tmp_path / 'tiny-gan')}"
    assert refusal(f"steps {data} {gan}") == "--steps 2 was given, 1 is accepted"


def test_what_a_model_does_not_do_is_not_evaluated(tmp_path: Path) -> None:
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    gan = f"--model {tiny_gan(tmp_path / 'tiny-gan')}"
    assert refusal(f"describe {data} {gan}") == "tiny-gan cannot describe"
    assert "tiny-gan cannot colorize, denoise" in refusal(f"transform {data} {gan}")


def test_what_a_style_lacks_is_looked_for_among_real_images(tmp_path: Path) -> None:
    """By sha256, five of these symbols are held out of Fluent 3D: 05, 0b, 0c, 10 and 12."""
    names = [f"1f3{number:02x}" for number in range(24)]
    real = make_set(tmp_path / "fluent", "fluent 3d", {name: f"thing {name}" for name in names})
    out = tmp_path / "drawn"
    out.mkdir()
    command = f"synthetic {real} --drawn {out}"
    assert "has no emoji sets" in refusal(command)
    make_set(out / "blob", "blob", {"1f305": "thing"}, synthetic=True)
    assert "none of its styles has held-out images" in refusal(command)
    names[0x0B], names[0x0C] = names[0x0C], names[0x0B]  # a set's place decides an image's colour
    drawn = {name: f"thing {name}" for name in names[:0x12]}
    make_set(out / "fluent_3d", "fluent 3d", drawn, synthetic=True)
    result = CliRunner().invoke(evaluation, command)
    assert result.exit_code == 0, result.output
    _, _, fluent, mean = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines()
    )
    assert fluent[:3] == ["fluent 3d", "5", "4"]
    assert fluent[3].startswith("40.0% (")
    assert mean[3] == "40.0%"
