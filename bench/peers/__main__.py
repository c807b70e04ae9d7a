"""Measures Tessera and other ways to serve the same model on this machine.

    pip install -e .[bench]
    python -m bench.peers [--model FOLDER] [--only tessera --only ray] [--rounds 3] [--seconds 10]

Prints Markdown, and each figure as it is found on the error stream; --out and --plot write files.
The systems are subprocesses with the same threads, dtype, tile and guidance; peers batch as their
own documentation recommends. They take turns in each load of each round, while the others are
stopped, and one that fails is left out of the rest of that round. The machine must have nothing
else to do: figures are worth as much as it is quiet.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import UserError, one_line_errors, problems, progress_bar
from app.cli.options import Chosen, choose_model, make_folder
from bench.load import mixes
from bench.measure import facts
from bench.peers.drawing import PeerSettings
from bench.peers.measuring import Plan, compare, report
from bench.peers.measuring import plot as draw_plot
from bench.peers.systems import SYSTEMS, System
from model.checkpoint import Checkpoint
from model.cores import cores
from model.loading import resolve_dtype


def main(
    model: Chosen = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help=f"May be given many times: {', '.join(system.name for system in SYSTEMS)}."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each with all loads.")] = 3,
    seconds: Annotated[
        float, typer.Option(min=1, help="Of each load in each round; of unequal requests 4 times.")
    ] = 10.0,
    saturation_seconds: Annotated[float, typer.Option(min=1, help="Of full load.")] = 6.0,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            min=0.01,
            help="Requests a second of which loads are shares, once for each mix; without it, what"
            " the slowest system delivers. A run that is to agree with another needs its rates.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the model; without it, the cores.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A file as well.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="A picture, PNG or SVG, of latency against load.")
    ] = None,
) -> None:
    """Measure Tessera and other ways to serve the same model; print the tables."""
    with one_line_errors():
        systems = _chosen(only)
        checkpoint = choose_model(model)
        for file in filter(None, (out, plot)):
            make_folder(file.parent)
        settings = PeerSettings(
            checkpoint=checkpoint.folder,
            threads=threads or cores(),
            pictures=_pictures(checkpoint),
            port=0,
        )
        asked = mixes(checkpoint.spec)
        if rate and len(rate) != len(asked):
            names = ", ".join(mix.name for mix in asked)
            raise UserError(f"--rate was given {len(rate)} times, there are {len(asked)}: {names}")
        plan = Plan(
            mixes=asked,
            steps=int(checkpoint.spec.request("a picture").value("steps", 1)),
            seconds=seconds,
            saturation_seconds=saturation_seconds,
            rounds=rounds,
            rates=tuple(rate or ()),
        )
        minutes = plan.duration(len(systems)) / 60
        _say(f"{minutes:.0f} minutes of load, and about half as many to start and warm up")
        with progress_bar() as bar:
            task = bar.add_task("", total=plan.stages(len(systems)), completed=-1)

            def on_stage(stage: str) -> None:
                bar.update(task, advance=1, description=stage)

            comparison = compare(systems, settings, plan, on_stage, _say)
        titles = [system.title for system in systems]
        lines = report(comparison, titles, _facts(checkpoint, settings, plan, systems))
        text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if plot is not None:
        draw_plot(comparison, titles, plot)


def _chosen(only: list[str] | None) -> list[System]:
    """Those that are meant and installed. Raises `UserError`."""
    names = [system.name for system in SYSTEMS]
    if unknown := [name for name in only or () if name not in names]:
        raise UserError(
            f"--only {unknown[0]}: there is no such system, there are {', '.join(names)}"
        )
    chosen = [system for system in SYSTEMS if only is None or system.name in only]
    for system in chosen:
        if not system.installed:
            _left_out(f"{system.title} is not installed: pip install -e '.[bench]'")
    installed = [system for system in chosen if system.installed]
    if not installed:
        raise UserError("there is nothing to measure")
    return installed


def _say(line: str) -> None:
    problems.print(line, markup=False, highlight=False, soft_wrap=True)


def _left_out(why: str) -> None:
    problems.print(f"left out: {why}", style="yellow", markup=False, soft_wrap=True)


def _pictures(checkpoint: Checkpoint) -> int:
    """How many fill the model's default tile."""
    return checkpoint.tiles["cpu"] // checkpoint.cost(checkpoint.spec.request("a picture"))


def _facts(
    checkpoint: Checkpoint, settings: PeerSettings, plan: Plan, systems: list[System]
) -> dict[str, str]:
    spec, machine = checkpoint.spec, facts("cpu")
    del machine["CPU"]  # of this process's threads
    return {
        "model": f"{spec.id} ({spec.digest[:12]}), {resolve_dtype('auto', 'cpu')}",
        "pictures in a batch": str(settings.pictures),
        "threads": str(settings.threads),
        "seconds": f"{plan.saturation_seconds:g} saturated, "
        + ", ".join(f"{plan.lasting(mix):g} of each load of {mix.name}" for mix in plan.mixes),
        "rounds": str(plan.rounds),
        "loads": f"shares of {'given rates' if plan.rates else 'the lowest saturation'}",
        "peers": ", ".join(f"{one.title} {one.version}" for one in systems if one.version),
        **machine,
    }


def _leave(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)  # so that whatever runs is ended
    typer.run(main)
