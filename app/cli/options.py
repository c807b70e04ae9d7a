"""Options that several commands have, and the checkpoint that they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.console import UserError
from model.checkpoint import SHIPPED, Checkpoint, shipped

Prompt = Annotated[str, typer.Argument(help='For example "red apple, fluent 3d style".')]
Steps = Annotated[int | None, typer.Option(min=1, help="More are slower and finer.")]
Guidance = Annotated[
    float | None, typer.Option(min=0, help="Above 1: closer to the prompt, less varied.")
]
Temperature = Annotated[
    float | None,
    typer.Option(min=0, max=2, help="Where tokens are drawn. Below 1: more of the likely ones."),
]
TopK = Annotated[
    int | None, typer.Option(min=0, help="Draws only from so many of the likeliest tokens; 0: all.")
]
TopP = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Only from the likeliest that together are this probable."),
]
Chosen = Annotated[str | None, typer.Option(help="A shipped model's name or a folder.")]
Device = Annotated[str, typer.Option(help="cpu, cuda:0 …")]
Precision = Annotated[Literal["auto", "fp32", "bf16"], typer.Option(help="Precision.")]


def open_checkpoint(model: str | None) -> Checkpoint:
    """By folder, by the name of a shipped one, or the default. Raises `UserError`."""
    if model is None:
        folders = shipped()
        if not folders:
            raise UserError(f"no checkpoint in {SHIPPED}; give one with --model FOLDER")
        return Checkpoint.open(folders[0])
    named = SHIPPED / model
    return Checkpoint.open(named if named.is_dir() else Path(model))
