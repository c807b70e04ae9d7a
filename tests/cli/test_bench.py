"""`tessera bench`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from tests.cli.conftest import Refusal, Run


@pytest.mark.parametrize("family", ["flow", "gpt", "gan"])
def test_bench_measures_tiles_and_recommends_one(
    run: Run, models: dict[str, Path], family: str
) -> None:
    result = run(f"bench tile 2 4 --seconds 0.02 --model {models[family]}")
    assert "Recommended: TESSERA_TILE=" in result.output


def test_programs_read_json(run: Run, models: dict[str, Path]) -> None:
    found = json.loads(run(f"bench tile 2 4 --seconds 0.02 --json --model {models['gan']}").stdout)
    assert [each["tile"] for each in found["tiles"]] == [2, 4]
    assert found["recommended"] in (2, 4)


def test_a_device_that_is_not_there_is_one_line(refused: Refusal, models: dict[str, Path]) -> None:
    line = refused(f"bench tile 2 --model {models['flow']} --device cuda:99")
    assert line.startswith("--device cuda:99 was given, there is cpu")


def test_bench_measures_a_start(
    run: Run, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()  # another package of that name, where the command runs
    (tmp_path / "app" / "__init__.py").touch()
    monkeypatch.setenv("TESSERA_MODELS", str(models["flow"]))
    monkeypatch.setenv("TESSERA_DEVICES", "cpu")
    result = run("bench start --runs 1")
    assert re.search(r"\b1 +│ +\d+\.\d +│ +\d+\.\d", result.output)


def test_a_start_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TESSERA_MODELS", str(tmp_path / "nothing"))
    result = CliRunner().invoke(cli, "bench start --runs 1")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    line = result.stderr.splitlines()[-1]  # after the progress bar
    assert line.startswith("error: the service ended: ")
    assert "nothing: no such folder" in line
