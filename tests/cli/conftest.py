"""The command line on tiny models, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from tests.tiny import tiny_flow, tiny_gan, tiny_gpt

Run = Callable[[str | list[str]], Result]
Refusal = Callable[[str | list[str]], str]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each family, by the family's name."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "flow": tiny_flow(folder / "tiny-flow"),
        "gpt": tiny_gpt(folder / "tiny-gpt"),
        "gan": tiny_gan(folder / "tiny-gan"),
    }


@pytest.fixture(scope="session")
def opaque(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow of images without transparency."""
    return tiny_flow(tmp_path_factory.mktemp("models") / "tiny-opaque", channels=3)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command in an empty folder; it must succeed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def runs(arguments: str | list[str]) -> Result:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        return result

    return runs


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Refusal:
    """Runs a command that cannot be carried out: it says so in one line, and does nothing.

    The line without "error: ".
    """
    monkeypatch.chdir(tmp_path)

    def line(arguments: str | list[str]) -> str:
        before = sorted(tmp_path.rglob("*"))
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        (said,) = result.stderr.splitlines()
        assert sorted(tmp_path.rglob("*")) == before
        return said.removeprefix("error: ")

    return line
