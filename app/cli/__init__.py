"""The ``tessera`` command: serve, get and look at models, generate, train, evaluate.

Only argument handling, progress bars and one-line errors live here. Whatever needs torch is
imported inside the command that needs it, so that ``tessera serve`` starts quickly.
"""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.bench import bench
from app.cli.console import say
from app.cli.describe import describe
from app.cli.evaluation import evaluate
from app.cli.generate import generate, sheet
from app.cli.models import models
from app.cli.options import ModelCommand
from app.cli.pull import pull
from app.cli.serve import serve, sign
from app.cli.training import train
from app.cli.transform import EditCommand, transform

cli = typer.Typer(
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    help="Serve image transformers over HTTP, generate images with them, train your own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from app.metrics import installed_version

        say(f"tessera {installed_version()}")
        raise typer.Exit


@cli.callback()
def _tessera(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say it.")
    ] = False,
) -> None: ...


for command in (serve, sign, models, pull):
    cli.command()(command)
cli.command(cls=ModelCommand)(generate)
cli.command(cls=EditCommand)(transform)
cli.command()(describe)
cli.command(cls=ModelCommand)(sheet)
cli.command()(train)
cli.command(cls=ModelCommand)(evaluate)
cli.add_typer(bench, name="bench")


def main() -> None:
    """The console script."""
    cli()
