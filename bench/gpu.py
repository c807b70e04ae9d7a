"""``make gpu``: every test marked ``gpu``, a short benchmark, one report with the GPU's name.

The exit status is 0 if all tests passed, 1 if one failed or none ran, and 2 if there is no GPU:
then nothing is run, and nobody should take that for a pass.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from bench.measure import ROOT, Served, StepTimes, facts, measure_served, measure_steps
from model.checkpoint import Checkpoint
from model.registry import open_checkpoint, shipped
from model.runtime.benchmark import recommend
from model.runtime.fixed_pass import Mode
from model.runtime.numerics import configure_determinism

FAILED, NO_GPU = 1, 2


def main(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")] = Path("out"),
    device: Annotated[str, typer.Option(help="cpu tries it out; the tests then skip.")] = "cuda:0",
    model: Annotated[Path | None, typer.Option(help="A checkpoint; the default ships.")] = None,
    tests: Annotated[str, typer.Option(help="Where the tests are.")] = "tests",
    tiles: Annotated[str, typer.Option(help="Tiles to measure.")] = "2,8,16,32,64,128",
    seconds: Annotated[float, typer.Option(help="For each tile.")] = 2.0,
    images: Annotated[int, typer.Option(min=1, help="That the engine draws.")] = 256,
) -> None:
    """Test and measure the GPU of this machine; write what came of it to OUT."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was tested or measured.", file=sys.stderr)
        raise typer.Exit(NO_GPU)
    tested = run_tests(tests)
    configure_determinism(device)
    checkpoint = open_checkpoint(model or shipped()[0])
    modes: list[Mode] = ["eager", "cuda graph"] if device.startswith("cuda") else ["eager"]
    sizes = [int(tile) for tile in tiles.split(",")]
    machine, said = facts(device), summary(tested.stdout)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"gpu-{_slug(machine['device'])}.md"
    passes: list[StepTimes] = []

    def write(served: Served | None = None) -> None:
        lines = report(checkpoint, machine, said, passes, served)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    for way in measure_steps(checkpoint, device=device, modes=modes, tiles=sizes, seconds=seconds):
        passes.append(way)
        print("\n".join(step_rows(checkpoint, way)), flush=True)
        write()
    write(measure_served(checkpoint, device=device, images=images))
    print(path.read_text(encoding="utf-8"))
    print(path)
    if tested.returncode or " passed" not in said[-1]:
        raise typer.Exit(FAILED)


def run_tests(folder: str) -> subprocess.CompletedProcess[str]:
    """In a process of their own, with their output on the terminal and in ``stdout``."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-ra", "--color=no", folder]
    wide = os.environ | {"COLUMNS": "200"}  # reasons are cut at the width
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, env=wide, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return subprocess.CompletedProcess(command, process.returncode, "".join(lines))


def summary(output: str) -> list[str]:
    """What pytest says at its end: what failed or was skipped and why, and how many passed."""
    lines = output.rstrip().splitlines() or ["pytest said nothing"]
    titles = [index for index, line in enumerate(lines) if " short test summary info " in line]
    return lines[titles[-1] + 1 :] if titles else lines[-1:]


def report(
    checkpoint: Checkpoint,
    machine: dict[str, str],
    tests: Sequence[str],
    passes: Sequence[StepTimes],
    served: Served | None,
) -> Iterator[str]:
    """The lines of a Markdown file, of what has been measured so far."""
    spec = checkpoint.spec
    steps = _steps(checkpoint)
    yield from (f"# Tessera on {machine['device']}", "", "| what | which |", "| --- | --- |")
    yield from (f"| {what} | {which} |" for what, which in machine.items())
    yield f"| model | {spec.id} ({spec.digest[:12]}), {steps} steps |"
    yield from ("", "## Tests", "", "```", *tests, "```")
    yield from ("", "## A step", "", "| dtype | run as | tile | ms a step | images/s |")
    yield "| --- | --- | ---: | ---: | ---: |"
    for way in passes:
        yield from step_rows(checkpoint, way)
    yield ""
    for way in passes:
        best = recommend(way.speeds)
        yield f"* {way.dtype}, {way.mode}: TESSERA_TILE={best.tile} is recommended"
    if served is None:
        return
    yield from ("", "## The engine", "")
    loaded = served.model
    yield (
        f"{served.images} images at once in {served.seconds:.1f} s: "
        f"{served.images_per_second:.1f} images/s at tile {loaded.tile} in {loaded.dtype} "
        f"(numerics {loaded.numerics}, seed-exact: {'yes' if loaded.seed_exact else 'no'})."
    )
    for way in passes:
        for speed in way.speeds:
            if (way.dtype, speed.tile) == (loaded.dtype, loaded.tile):
                ratio = served.images_per_second / speed.images_per_second(steps)
                yield f"That is {ratio:.2f} of the same model stepped in a bare loop ({way.mode})."


def step_rows(checkpoint: Checkpoint, way: StepTimes) -> Iterator[str]:
    """Of a table, a row for each tile."""
    for speed in way.speeds:
        yield (
            f"| {way.dtype} | {way.mode} | {speed.tile} | {1000 * speed.step_seconds:.2f} "
            f"| {speed.images_per_second(_steps(checkpoint)):.1f} |"
        )


def _steps(checkpoint: Checkpoint) -> int:
    """That an image takes by default."""
    return int(checkpoint.spec.request("a picture").value("steps", 1))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    typer.run(main)
