"""How much sooner a few images are done where passes may be smaller than the tile.

    python -m bench.rungs [--model emoji-flow] [--tile 8] [--images 1 2 3] [--rounds 5] [--steps 20]

The same images, alternately with passes of any size that the self-test found to give the tile's
bits, and with the tile alone: milliseconds an image, the median of all rounds, and how many times
as long the tile alone takes, with the least and the most. ``--cpu-time`` counts the process's CPU
seconds, for one thread on a machine that has other work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from app.engine.selftest import examine
from model.loading import load_model
from model.protocol import ImageModel
from model.registry import SHIPPED, open_checkpoint, shipped
from model.request import ImageRequest
from model.runtime.generate import generate
from model.runtime.numerics import configure_determinism


def seconds_an_image(
    model: ImageModel[Any],
    requests: Sequence[ImageRequest],
    rungs: Sequence[int],
    clock: Callable[[], float],
) -> float:
    """With passes of these sizes and the tile."""
    model.rungs.use(rungs)
    began = clock()
    list(generate(model, requests))
    return (clock() - began) / len(requests)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", nargs="+", default=[folder.name for folder in shipped()])
    parser.add_argument("--tile", type=int, help="without it, the family's own")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 2, 3, 4, 6], help="at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="without it, the model's own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--cpu-time", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.cpu_time else time.perf_counter
    configure_determinism("cpu", given.threads)
    table = Table("model", "tile", "rungs", "images", "ms", "tile alone", "ratio", "range")
    for name in given.model:
        checkpoint = open_checkpoint(SHIPPED / name)
        model = load_model(checkpoint, device="cpu", dtype=given.dtype, tile=given.tile)
        *rungs, tile = examine(model).rungs
        chosen: dict[str, Any] = {} if given.steps is None else {"steps": given.steps}
        one = model.spec.request("red apple, noto style", 1, **chosen)
        for count in given.images:
            requests = [replace(one, seed=seed) for seed in range(count)]
            times = [
                tuple(seconds_an_image(model, requests, sizes, clock) for sizes in (rungs, ()))
                for _ in range(given.rounds)
            ]
            ratios = [whole / small for small, whole in times]
            table.add_row(
                name,
                str(tile),
                " ".join(map(str, rungs)),
                str(count),
                *(f"{1000 * statistics.median(column):.0f}" for column in zip(*times, strict=True)),
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
