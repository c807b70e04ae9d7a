"""``tessera models``."""

from __future__ import annotations

from rich.table import Table

from app.cli.console import one_line_errors, output
from model.checkpoint import Checkpoint, shipped


def models() -> None:
    """List the checkpoints that ship."""
    with one_line_errors():
        table = Table("model", "family", "size", "steps", "guidance", "digest", "what it draws")
        for folder in shipped():
            spec = Checkpoint.open(folder).spec
            table.add_row(
                spec.id,
                spec.family,
                f"{spec.size}x{spec.size}",
                f"{spec.steps.default:g}",
                f"{spec.guidance.default:g}",
                spec.digest[:12],
                spec.description,
            )
        output.print(table)
