"""``tessera bench``: what this machine can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli.console import UserError, one_line_errors, output, progress_bar, say
from app.cli.options import (
    AsJson,
    Chosen,
    Device,
    Precision,
    check_device,
    choose_model,
    load_chosen,
)

if TYPE_CHECKING:
    import httpx

PATIENCE = 600.0  # seconds until a start is given up
POLL = 0.05  # seconds between looks: what is measured has the cores
LISTENING = "listening on "

bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@bench.command()
def tile(
    tiles: Annotated[
        list[int] | None, typer.Argument(min=2, help="Sizes to measure: 2 4 8 16 32 64.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="For each size.")] = 5.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    model: Chosen = None,
    as_json: AsJson = False,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Time passes of several tile sizes and recommend one for TESSERA_TILE."""
    with one_line_errors():
        checkpoint = choose_model(model)
        check_device(device)
        from model.runtime.benchmark import measure, recommend

        sizes = sorted(set(tiles or (2, 4, 8, 16, 32, 64)))
        steps = int(checkpoint.spec.request("an image").value("steps", 1))
        speeds = []
        with progress_bar() as bar:
            for size in bar.track(sizes, description="measuring"):
                loaded = load_chosen(checkpoint, device, dtype, tile=size, threads=threads)
                speeds.append(measure(loaded, seconds))
        if as_json:
            measured = [
                {
                    "tile": speed.tile,
                    "step_seconds": speed.step_seconds,
                    "evaluations_per_second": speed.evaluations_per_second,
                    "images_per_second": speed.images_per_second(steps),
                    "image_seconds": speed.image_seconds(steps),
                }
                for speed in speeds
            ]
            recommended = recommend(speeds).tile
            say(json.dumps({"steps": steps, "tiles": measured, "recommended": recommended}))
            return
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
        image = "1 step" if steps == 1 else f"{steps} steps"
        if speeds[0].cost > 1:
            image += " with guidance"
        output.print(
            f"{image}. Recommended: TESSERA_TILE={recommend(speeds).tile}, "
            "the smallest with 90 % of the best evaluations/s.",
            highlight=False,
        )


@bench.command()
def start(
    runs: Annotated[int, typer.Option(min=1, help="How often it is started.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Time `tessera serve` from the command to ready, with your TESSERA_… settings."""
    with one_line_errors():
        with progress_bar() as bar:
            starts = [measure_start() for _ in bar.track(range(runs), description="starting")]
        if as_json:
            say(json.dumps([{"alive": took.alive, "ready": took.ready} for took in starts]))
            return
        table = Table("run", "alive after (s)", "ready after (s)")
        for run, took in enumerate(starts, 1):
            table.add_row(str(run), f"{took.alive:.1f}", f"{took.ready:.1f}")
        output.print(table)


@dataclass(frozen=True, slots=True)
class StartTimes:
    """Seconds after the command."""

    alive: float  # until /livez answers
    ready: float  # until /readyz is 200: models loaded, warm and tested


SOMEWHERE = ("--host", "127.0.0.1", "--port", "0")
"""Where it listens: on a free port."""


def measure_start() -> StartTimes:
    """Starts the service with the settings of this environment, on a free port, and stops it.

    Raises `UserError` where it does not become ready.
    """
    import httpx  # 0.1 s, which no other command needs to wait for

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            began = time.monotonic()
            process = subprocess.Popen(
                # -P: what runs here, whatever package "app" the working directory has.
                [sys.executable, "-P", "-m", "app.cli", "serve", *SOMEWHERE],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            url = _await_address(process, log)
            with httpx.Client(base_url=url, timeout=PATIENCE) as client:
                alive = _await_ok(process, log, client, "/livez") - began
                ready = _await_ok(process, log, client, "/readyz") - began
        finally:
            process.terminate()
            process.wait()
    return StartTimes(alive, ready)


def _await_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        _, found, rest = log.read_text(encoding="utf-8", errors="replace").partition(LISTENING)
        if found and ";" in rest:
            return rest.partition(";")[0]
        _check(process, log)
        time.sleep(POLL)
    raise UserError(f"the service does not listen after {PATIENCE:.0f} s")


def _await_ok(
    process: subprocess.Popen[bytes], log: Path, client: httpx.Client, path: str
) -> float:
    deadline = time.monotonic() + PATIENCE
    while (now := time.monotonic()) < deadline:
        if client.get(path).is_success:
            return now
        _check(process, log)
        time.sleep(POLL)
    raise UserError(f"{path} is not well after {PATIENCE:.0f} s")


def _check(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise UserError(f"the service ended: {lines[-1] if lines else 'it said nothing'}")
