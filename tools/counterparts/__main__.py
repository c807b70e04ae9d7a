"""The command: see the package."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from app.cli.console import UserError, one_line_errors, output
from app.cli.evaluation import evaluating
from model.data import load
from model.data.emoji import read_records, select
from model.data.pictures import PictureFormat
from model.training.optimizer import OptimizerConfig
from tools.concept_flow import load_network, open_knowing
from tools.counterparts.drawing import SIZE, drawn, redrawn, save_sets
from tools.counterparts.guess import guess
from tools.counterparts.learning import CounterpartSteps, blocks
from tools.counterparts.network import SHAPES, CounterpartNetwork
from tools.counterparts.sources import CHANNELS, GUESSED_SIZE, Sources, reduced
from tools.counterparts.symbols import Symbols
from tools.graphed import train


def main(
    sets: Annotated[list[Path], typer.Argument(help="Emoji sets.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new sets.")],
    style: Annotated[list[str], typer.Option(help="A style to be completed; repeat it.")],
    minutes: Annotated[float, typer.Option(min=0, help="Of learning.")] = 6.0,
    steps: Annotated[int, typer.Option(min=1, help="The most that are done.")] = 10**9,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    drawn_size: Annotated[
        int, typer.Option("--size", help="Of what the network draws: 128, or 32 on a CPU.")
    ] = 128,
    drawing_steps: Annotated[int, typer.Option(min=1, help="With which images are drawn.")] = 1,
    flow: Annotated[Path | None, typer.Option(help="A flow that draws it all again.")] = None,
    device: Annotated[str, typer.Option(help="cuda; cpu to try it.")] = "cuda",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile")] = True,
) -> None:
    """Draw what styles lack from what other styles have."""
    began = time.monotonic()
    with one_line_errors(), evaluating():
        if (shape := SHAPES.get(drawn_size)) is None:
            sizes = " and ".join(map(str, SHAPES))
            raise UserError(f"--size {drawn_size} was given, accepted are {sizes}")
        knowing = open_knowing(flow) if flow else None
        if knowing and (size := knowing[0].config.network.image_size) != SIZE:
            raise UserError(f"{flow}: draws {size} pixels along a side, {SIZE} are needed")
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        with tempfile.TemporaryDirectory() as cache:
            data = load(sets, PictureFormat(SIZE, CHANNELS), cache=Path(cache))
            images = torch.from_numpy(np.array(data.pictures)).to(device)
        symbols = Symbols.of(select(read_records(sets), "train"))
        if unknown := set(style) - set(symbols.styles):
            raise UserError(f"{unknown.pop()!r} is none of the styles: {', '.join(symbols.styles)}")
        pairs, lacking = symbols.pairs(), symbols.lacking(style)
        if not len(pairs):
            raise UserError("nothing to learn from: no symbol is in two styles of other drawings")
        network = CounterpartNetwork(len(symbols.styles), shape).to(device)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        guesses = guess(reduced(images, GUESSED_SIZE), symbols, lacking)
        sources = Sources(reduced(images, shape.size), symbols, guesses, shape.shown)
        config = OptimizerConfig(learning_rate, weight_decay=0.05, cooldown=0.5)
        learning = CounterpartSteps(
            network,
            sources,
            batch=batch,
            drawing_steps=drawing_steps,
            weight_decay=config.weight_decay,
            compiled=compiled,
        )
        train(
            learning,
            blocks(pairs.to(device), symbols.weights(pairs, style).to(device), batch),
            learning.step,
            doing="learning styles",
            seconds=max(1.0, 60 * minutes - (time.monotonic() - began)),
            steps=steps,
            config=config,
        )
        network.load_state_dict(learning.average.state)
        made = drawn(network, sources, lacking, drawing_steps, batch)
        if knowing is not None:
            checkpoint, concepts = knowing
            records = [symbols.lacked(*pair) for pair in lacking.tolist()]
            numbers = torch.tensor([concepts.numbers(record) for record in records], device=device)
            flow_network = load_network(checkpoint).eval().to(device)
            made = redrawn(flow_network, checkpoint.config.sampling, numbers, made, batch)
        save_sets(out, symbols, lacking, made, style)
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
