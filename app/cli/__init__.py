"""The ``tessera`` command: serve, draw, look at models, train, evaluate.

Only argument handling, progress bars and one-line errors live here. Whatever needs torch is
imported inside the command that needs it, so that ``tessera serve`` starts quickly.
"""

from __future__ import annotations

import typer

from app.cli.benchmarks import bench
from app.cli.describing import describe
from app.cli.drawing import generate, sheet
from app.cli.evaluation import evaluation
from app.cli.listing import models
from app.cli.measures import cas, encoder, families
from app.cli.serving import serve, sign
from app.cli.training import train
from app.cli.transforming import transform

cli = typer.Typer(
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    help="Serve image transformers over HTTP, draw with them, train your own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (serve, sign, models, generate, transform, describe, sheet, train):
    cli.command()(command)
evaluation.command()(encoder)
evaluation.command()(families)
evaluation.command()(cas)
cli.add_typer(evaluation, name="evaluate")
cli.add_typer(bench, name="bench")


def main() -> None:
    """The console script."""
    cli()
