"""``tessera bench``: what this machine can do."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from app.cli.console import one_line_errors, output, progress_bar
from app.cli.options import Chosen, Device, Precision, open_checkpoint

bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@bench.command()
def tile(
    tiles: Annotated[
        list[int] | None, typer.Argument(min=2, help="Sizes to measure: 2 4 8 16 32 64.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="For each size.")] = 5.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    model: Chosen = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Time passes of several tile sizes and recommend one for TESSERA_TILE."""
    with one_line_errors():
        checkpoint = open_checkpoint(model)
        from model.checkpoint import load_model
        from model.numerics import settle
        from model.tile import measure, recommend

        settle(device, threads)
        sizes = sorted(set(tiles or (2, 4, 8, 16, 32, 64)))
        steps = int(checkpoint.spec.steps.default)
        speeds = []
        with progress_bar() as bar:
            for size in bar.track(sizes, description="measuring"):
                loaded = load_model(checkpoint, device=device, dtype=dtype, tile=size)
                speeds.append(measure(loaded, seconds))
        table = Table("tile", "ms a step", "evaluations/s", "images/s", "ms an image")
        for speed in speeds:
            table.add_row(
                str(speed.tile),
                f"{1000 * speed.step_seconds:.1f}",
                f"{speed.evaluations_per_second:.0f}",
                f"{speed.images_per_second(steps):.2f}",
                f"{1000 * speed.image_seconds(steps):.0f}",
            )
        output.print(table)
        picture = "1 step" if steps == 1 else f"{steps} steps"
        if speeds[0].places > 1:
            picture += " with guidance"
        output.print(
            f"{picture}. Recommended: TESSERA_TILE={recommend(speeds).tile}, "
            "the smallest with 90 % of the best evaluations/s.",
            highlight=False,
        )


@bench.command()
def start(
    runs: Annotated[int, typer.Option(min=1, help="How often it is started.")] = 3,
) -> None:
    """Time `tessera serve` from the command to ready, with your TESSERA_… settings."""
    from app.cli.startup import measure_start

    with one_line_errors():
        table = Table("run", "alive after (s)", "ready after (s)")
        with progress_bar() as bar:
            for run in bar.track(range(runs), description="starting"):
                took = measure_start()
                table.add_row(str(run + 1), f"{took.alive:.1f}", f"{took.ready:.1f}")
        output.print(table)
