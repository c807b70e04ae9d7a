"""What a command says: answers on the output, progress and one-line errors on the error stream."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from model.checkpoint import CheckpointError

output = Console()
problems = Console(stderr=True)


class UserError(Exception):
    """Something the user can mend, said in one line."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the command with status 1 and a line where something is wrong that its user can mend."""
    try:
        yield
    except (UserError, CheckpointError) as error:
        problems.print(f"[red]error:[/red] {error}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from error


def progress_bar(*columns: str) -> Progress:
    """A progress bar with extra fields, on the error stream so that output can be piped."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(column) for column in columns),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=problems,
    )
