"""``tessera models``."""

from __future__ import annotations

from rich.table import Table

from app.cli.console import one_line_errors, output
from model.protocol import ModelSpec
from model.registry import open_checkpoint, shipped


def models() -> None:
    """List the checkpoints that ship: their sizes, and their parameters with the defaults."""
    with one_line_errors():
        specs = [open_checkpoint(folder).spec for folder in shipped()]
    table = Table("model", "family", "sizes", "parameters", "digest", "description")
    for spec in specs:
        table.add_row(
            spec.id,
            spec.family,
            _sizes(spec),
            _parameters(spec),
            spec.digest[:12],
            spec.description,
        )
    output.print(table)


def _sizes(spec: ModelSpec) -> str:
    sizes = spec.sizes
    listed = ", ".join(f"{width}x{height}" for width, height in (sizes.native, *sizes.others))
    return f"{listed}, multiples of {sizes.multiple}" if sizes.multiple else listed


def _parameters(spec: ModelSpec) -> str:
    return ", ".join(
        one.name if one.default is None else f"{one.name} {one.default:g}"
        for one in spec.parameters
    )
