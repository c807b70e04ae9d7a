"""Results on the output; progress and one-line errors on the error stream."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

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
from model.request import InvalidField

WIDE = 400
"""Columns of a table in a pipe: no cell is folded there."""

output = Console(
    emoji=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
)
problems = Console(stderr=True, emoji=False)


class UserError(Exception):
    """Something that the user can put right. ``str()`` is one line."""


def say(text: str) -> None:
    """A line of output as it is: no part of it is markup, no path in it is broken, and the bytes
    of a name that is no UTF-8 are its own."""
    typer.echo(os.fsencode(text))


def option_name(error: InvalidField) -> str:
    """The option that sets the field."""
    return f"--{error.field.replace('_', '-')}"


@contextlib.contextmanager
def one_line_errors(subject: Callable[[InvalidField], str] = option_name) -> Iterator[None]:
    """Ends the command with status 1 and one line for what its user can put right.

    ``subject`` is what the message of an `InvalidField` is about.
    """
    try:
        yield
    except (UserError, CheckpointError, InvalidField) as error:
        message = f"{subject(error)} {error}" if isinstance(error, InvalidField) else str(error)
        problems.print("[red]error:[/red]", end=" ")
        problems.print(message, soft_wrap=True, highlight=False, markup=False)
        raise typer.Exit(1) from error


def progress_bar(*columns: str, remaining: bool = True) -> Progress:
    """A progress bar with extra fields, on the error stream so that output can be piped.

    The time ``remaining`` is known from the second step on, which may take minutes.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(column) for column in columns),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if remaining else []),
        console=problems,
        speed_estimate_period=600,  # seconds
    )
