"""``tessera describe``: what an image shows, without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from app.cli.console import one_line_errors, option_name, output, progress_bar, say
from app.cli.options import (
    LIMITS,
    AsJson,
    Device,
    Precision,
    choose_model,
    load_chosen,
    read_file,
)
from app.generation.resolve import find_describer, resolve_description
from model.protocol import Description
from model.registry import open_checkpoint, shipped


def describe(
    image: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="PNG, JPEG, WebP, AVIF or GIF.")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option("-l", "--label", help="What to choose from; may be given many times."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A shipped model's name or a folder; else the first that can."),
    ] = None,
    as_json: AsJson = False,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Say what an image shows: a caption, and labels with their probabilities.

    Without --label the model chooses from the captions that it was trained on.
    """
    subjects = {"image": str(image), "labels": "--label"}
    with one_line_errors(lambda error: subjects.get(error.field, option_name(error))):
        if model is None:
            checkpoints = [open_checkpoint(folder) for folder in shipped()]
        else:
            checkpoints = [choose_model(model)]
        name = None if model is None else checkpoints[0].spec.id
        checkpoint = find_describer(name, {one.spec.id: one for one in checkpoints}, {})
        request = resolve_description(read_file(image), tuple(label or ()), checkpoint, LIMITS)
        loaded = load_chosen(checkpoint, device, dtype, tile=2)
        from model.runtime.generate import run

        with progress_bar() as bar:
            task = bar.add_task("reading", total=None)
            [description] = run(loaded, [request], lambda steps: bar.advance(task, steps))
        assert isinstance(description, Description)
        if as_json:
            labels = [
                {"label": found.text, "probability": found.probability}
                for found in description.labels
            ]
            answer = {"model": checkpoint.spec.id, "caption": description.caption, "labels": labels}
            say(json.dumps(answer, ensure_ascii=False))
            return
        say(description.caption or "(the model has no words for it)")
        if not description.labels:
            return
        table = Table(Column("label", overflow="fold"), "probability")
        for found in description.labels:
            table.add_row(escape(found.text), f"{found.probability:.1%}")
        output.print(table)
