"""Tools as they are called from a command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import typer
from typer.testing import CliRunner


def tool(main: Callable[..., None], given: str) -> str:
    """What a tool prints. Raises ``AssertionError`` where it fails."""
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, shlex.split(given))
    assert result.exit_code == 0, result.output
    return result.output
