"""``tessera describe``: what a picture shows, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.options import Device, Precision, open_checkpoint
from app.uploads.decoding import UploadError
from app.uploads.prepare import Canvas, shown
from model.checkpoint import Checkpoint, shipped
from model.protocol import Description, RowRequest
from model.tokenizer import PromptTooLong

MOST_PIXELS = 100_000_000


def describe(
    image: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="PNG, JPEG, WebP or GIF.")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option("-l", "--label", help="What to choose from; may be given many times."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A shipped model's name or a folder; else the first that can."),
    ] = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Say what a picture shows: a caption, and labels with their probabilities.

    Without --label the model chooses from the captions that it was trained on.
    """
    with one_line_errors():
        checkpoint = _describer(model)
        spec = checkpoint.spec
        try:
            prepared = shown(image.read_bytes(), Canvas(spec.size, spec.channels), MOST_PIXELS)
        except UploadError as error:
            raise UserError(f"{image} {error}") from error
        request = RowRequest(
            prompt="",
            seed=0,
            steps=int(spec.steps.default),
            guidance=1.0,
            operation="describe",
            source=prepared.source,
            labels=tuple(label or ()),
        )
        description = _run(checkpoint, request, device, dtype)
        output.print(description.caption, highlight=False)
        table = Table("label", "probability")
        for one in description.labels:
            table.add_row(one.text, f"{one.probability:.1%}")
        output.print(table)


def _run(checkpoint: Checkpoint, request: RowRequest, device: str, dtype: Precision) -> Description:
    from model.checkpoint import load_model
    from model.numerics import settle
    from model.sampling import run

    settle(device)
    model = load_model(checkpoint, device=device, dtype=dtype, tile=2)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=request.steps)
        try:
            [description] = run(model, [request], lambda done: bar.advance(task, done))
        except PromptTooLong as error:
            raise UserError(f"--label: {error}") from error
    assert isinstance(description, Description)
    return description


def _describer(model: str | None) -> Checkpoint:
    """The one that is meant, or the first of those that ship that can. Raises `UserError`."""
    if model is None:
        for folder in shipped():
            checkpoint = Checkpoint.open(folder)
            if "describe" in checkpoint.spec.operations:
                return checkpoint
        raise UserError("no model that ships can describe; give one with --model FOLDER")
    checkpoint = open_checkpoint(model)
    if "describe" not in checkpoint.spec.operations:
        raise UserError(f"{checkpoint.spec.id} cannot describe")
    return checkpoint
