"""How time and memory grow: with steps, rows, size, models loaded and the queue.

    python -m bench.costs [--only passes steps] [--model emoji-flow] [--threads 2] [--rounds 7]

* **Rows**: a pass of each size that the self-test allows, for each kind of pass that a row takes
  most of: milliseconds, and what part it reaches of the *roof*, the floating-point operations a
  second of a large matrix product in the same dtype on the same threads, measured beside it.
* **Kernels**: which operations of torch the passes of a lone row, and of a full tile, spend their
  time in; what is not a product of matrices holds the rest of the roof.
* **Steps**: one image alone, where the model takes steps.
* **Size**: from the model's pixels to a file of that size. (A model that draws several sizes is not
  among those that ship.)
* **Models and queue**: resident memory of the service's processes, ready, with one model and more,
  and of the API process for each row that waits.

``--cpu-time`` counts the process's CPU seconds, for one thread on a machine that has other work.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from app.engine.selftest import examine
from app.generation.output import Framing, Metadata, Output, encode
from app.memory import MIB
from bench.load import LoadRequest
from bench.peers.drawing import PeerSettings
from bench.peers.systems import running
from bench.served import TESSERA, computing_as_a_worker, lean_sender, listener
from model.cores import cores
from model.loading import load_model, resolve_dtype
from model.protocol import ImageModel, Pass, in_turn
from model.registry import SHIPPED, open_checkpoint, shipped
from model.request import ImageRequest
from model.runtime.generate import fitting, generate
from model.runtime.numerics import DTYPES, configure_determinism
from model.runtime.packing import pack

SIDE = 2048  # of the matrices whose product is the roof
STEPS = (1, 2, 4, 8, 20, 50)
SIZES = (64, 128, 256, 512, 1024)
QUEUE = (0, 1000, 4000)  # rows
SETTLED = 5.0  # seconds until all of them wait
FIRST = LoadRequest("red apple", 7, 1, 1)
MOST_KERNELS = 8
PARTS = ("passes", "kernels", "steps", "sizes", "models", "queue")

Clock = Callable[[], float]  # seconds


@dataclass(frozen=True, slots=True)
class PassCost:
    """A pass of one kind in one size, all of it in use."""

    kind: str
    size: int
    seconds: float  # median
    operations: float  # of the network's products, a multiplication and an addition being two

    def share(self, roof: float) -> float:
        """Of ``roof``, operations a second."""
        return self.operations / self.seconds / roof


def roof_of(dtype: torch.dtype, rounds: int, clock: Clock) -> float:
    """Floating-point operations a second of a large layer: the best of some."""
    layer, x = nn.Linear(SIDE, SIDE, bias=False, dtype=dtype), torch.randn(SIDE, SIDE).to(dtype)
    pack(layer)
    with torch.inference_mode():
        return 2 * SIDE**3 / min(_times(partial(layer, x), rounds, clock))


def pass_costs(model: ImageModel[Any], rounds: int, clock: Clock) -> Iterator[PassCost]:
    """Of the kind that an image takes most passes of, in each size that is in use."""
    for size in examine(model).rungs:
        asked = _asked(model, size)
        if size * model.cost(asked[0]) > in_turn(model.tile, model.slots):
            continue
        times: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for passes, took in _steps(model, asked, nullcontext(), clock):
                if _of_one_kind(passes) and passes[0].size == size:
                    times[passes[0].kind].append(took)
        if not times:
            continue
        kind = Counter({kind: len(found) for kind, found in times.items()}).most_common(1)[0][0]
        operations = _operations(model, asked, kind)
        yield PassCost(kind, size, statistics.median(times[kind]), operations)


def _asked(model: ImageModel[Any], count: int) -> list[ImageRequest]:
    """So many, each of a row that takes one evaluation a step."""
    given: dict[str, Any] = {"guidance": 1.0} if model.spec.parameter("guidance") else {}
    return [model.spec.request("red apple", seed, **given) for seed in range(count)]


def _steps(
    model: ImageModel[Any],
    asked: Sequence[ImageRequest],
    around: AbstractContextManager[object],
    clock: Clock,
) -> Iterator[tuple[Sequence[Pass], float]]:
    """Every step of these rows, with its time; each is taken within ``around``."""
    rows = [model.start(request) for request in asked]
    try:
        while unfinished := [row for row in rows if not row.done]:
            together = fitting(model, unfinished)
            began = clock()
            with around:
                passes = model.step(together)
            yield passes, clock() - began
    finally:
        for row in rows:
            model.release(row)


def _of_one_kind(passes: Sequence[Pass]) -> bool:
    """A step may read prompts and denoise: what it takes is of neither."""
    return len({each.kind for each in passes}) == 1


def _operations(model: ImageModel[Any], asked: Sequence[ImageRequest], kind: str) -> float:
    """Of one pass of the kind: the median, as a gpt's grows with what it has drawn."""
    packed = {torch.ops.mkldnn._linear_pointwise: _operations_of_packed}
    counter, counted = FlopCounterMode(display=False, custom_mapping=packed), []
    for passes, _ in _steps(model, asked, counter, time.perf_counter):
        if _of_one_kind(passes) and passes[0].kind == kind:
            counted.append(counter.get_total_flops())
    return statistics.median(counted)


def _operations_of_packed(x: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return 2 * math.prod(out_shape) * x[-1]


def seconds_by_steps(
    model: ImageModel[Any], rounds: int, clock: Clock
) -> Iterator[tuple[int, float]]:
    """Of one image alone, in as many steps as the model takes of `STEPS`."""
    parameter = model.spec.parameter("steps")
    if parameter is None or parameter.minimum == parameter.maximum:
        return
    for steps in STEPS:
        if parameter.minimum <= steps <= parameter.maximum:
            asked = model.spec.request("red apple", 1, steps=steps)
            yield steps, _median(lambda asked=asked: list(generate(model, [asked])), rounds, clock)  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class FileCost:
    """A PNG file of ``size`` x ``size`` pixels of a model's image."""

    size: int
    seconds: float  # to resample and encode
    bytes: int


def file_costs(
    model: ImageModel[Any], framing: Framing | None, rounds: int, clock: Clock
) -> Iterator[FileCost]:
    """Of each of `SIZES`; with ``framing`` they are compressed as those of uploads are."""
    picture = next(generate(model, [model.spec.request("red apple", 1)]))
    says = Metadata("red apple", 1, model.spec.id, "bench", "generate")
    for size in SIZES:
        output = Output("png", size, size, "ffffff", 90, "full")
        write = partial(encode, picture, output, says, framing)
        yield FileCost(size, _median(write, rounds, clock), len(write()))


def _median(work: Callable[[], object], rounds: int, clock: Clock) -> float:
    return statistics.median(_times(work, rounds, clock))


def _times(work: Callable[[], object], rounds: int, clock: Clock) -> list[float]:
    """Of so many rounds, after one that warms up."""
    work()
    times = []
    for _ in range(rounds):
        began = clock()
        work()
        times.append(clock() - began)
    return times


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes that a ready service holds."""

    models: int
    api: int
    worker: int


def memory_by_models(folders: Sequence[Path], threads: int) -> Iterator[Resident]:
    """Of a service with the first model, with the first two, and so on."""
    for count in range(1, len(folders) + 1):
        listed = Path(",".join(map(str, folders[:count])))  # as TESSERA_MODELS lists them
        with running(TESSERA, PeerSettings(listed, threads, 1, 0), FIRST) as service:
            api = listener(service.url)
            workers = sum(one.memory_info().rss for one in api.children(recursive=True))
            yield Resident(count, api.memory_info().rss, workers)


def memory_by_queue(folder: Path, threads: int) -> Iterator[tuple[int, float]]:
    """Bytes that the API process has more, with so many rows in its queue."""
    with running(TESSERA, PeerSettings(folder, threads, 1, 0), FIRST) as service:
        url = service.url
        api = listener(url)
        asyncio.run(_in_line(url, api, QUEUE[0]))  # what a first crowd leaves is no row's
        before = api.memory_info().rss
        for rows in QUEUE:
            yield rows, asyncio.run(_in_line(url, api, rows)) - before


async def _in_line(url: str, api: psutil.Process, rows: int) -> int:
    """Resident bytes while requests of ten images each wait; then their client leaves."""
    slow = (LoadRequest("red apple", seed, steps=100, n=10) for seed in range(0, rows, 10))
    async with lean_sender(url) as send:
        waiting = [asyncio.ensure_future(send(request)) for request in slow]
        await asyncio.sleep(SETTLED)
        held = api.memory_info().rss
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return int(held)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", nargs="+", default=[folder.name for folder in shipped()])
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu-time", action="store_true")
    given = parser.parse_args()
    computing_as_a_worker("bench.costs", given.threads)
    configure_determinism("cpu", given.threads)
    clock: Clock = time.process_time if given.cpu_time else time.perf_counter
    console, folders = Console(), [SHIPPED / name for name in given.model]
    parts = {
        "passes": lambda: _passes(folders, given.rounds, clock),
        "kernels": lambda: _kernels(folders),
        "steps": lambda: _steps_table(folders, given.rounds, clock),
        "sizes": lambda: _sizes_table(folders[0], given.rounds, clock),
        "models": lambda: _models_table(folders, given.threads),
        "queue": lambda: _queue_table(folders[0], given.threads),
    }
    for name in given.only:
        console.print(parts[name]())


def _passes(folders: Sequence[Path], rounds: int, clock: Clock) -> Table:
    dtype = resolve_dtype("auto", "cpu")
    roof = roof_of(DTYPES[dtype], rounds, clock)
    head = ("model", "kind of pass", "size", "ms", "ms a row", "GFLOP", "of the roof")
    table = Table(*head, title=f"roof: {roof / 1e9:.0f} GFLOP/s, {SIDE} x {SIDE} in {dtype}")
    for folder in folders:
        for cost in pass_costs(_loaded(folder), rounds, clock):
            ms = 1000 * cost.seconds
            table.add_row(
                *(folder.name, cost.kind, str(cost.size), f"{ms:.1f}", f"{ms / cost.size:.1f}"),
                *(f"{cost.operations / 1e9:.2f}", f"{cost.share(roof):.0%}"),
            )
    return table


def _kernels(folders: Sequence[Path]) -> Table:
    table = Table("model", "rows", "of all operations' time")
    for folder in folders:
        model = _loaded(folder)
        for size in (1, model.tile):
            asked = _asked(model, size)
            list(_steps(model, asked, nullcontext(), time.perf_counter))  # what is done once
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                list(_steps(model, asked, nullcontext(), time.perf_counter))
            spent = {one.key: one.self_cpu_time_total for one in profiled.key_averages()}
            most = sorted(spent, key=lambda name: -spent[name])[:MOST_KERNELS]
            whole = sum(spent.values())
            named = (f"{name.removeprefix('aten::')} {spent[name] / whole:.0%}" for name in most)
            table.add_row(folder.name, str(size), ", ".join(named))
    return table


def _steps_table(folders: Sequence[Path], rounds: int, clock: Clock) -> Table:
    table = Table("model", "steps", "ms alone")
    for folder in folders:
        for steps, took in seconds_by_steps(_loaded(folder), rounds, clock):
            table.add_row(folder.name, str(steps), f"{1000 * took:.0f}")
    return table


def _sizes_table(folder: Path, rounds: int, clock: Clock) -> Table:
    model = _loaded(folder)
    table = Table("file", "drawn: ms", "KB", "made of an upload: ms", "KB")
    for drawn, edited in zip(
        file_costs(model, None, rounds, clock),
        file_costs(model, lambda image: image, rounds, clock),
        strict=True,
    ):
        cells = (
            f"{x:.1f}" for one in (drawn, edited) for x in (1e3 * one.seconds, one.bytes / 1e3)
        )
        table.add_row(f"{drawn.size} x {drawn.size}", *cells)
    return table


def _models_table(folders: Sequence[Path], threads: int) -> Table:
    table = Table("models", "API process, MiB", "worker, MiB")
    for one in memory_by_models(folders, threads):
        table.add_row(str(one.models), f"{one.api / MIB:.0f}", f"{one.worker / MIB:.0f}")
    return table


def _queue_table(folder: Path, threads: int) -> Table:
    table = Table("rows that wait", "MiB more", "KiB a row")
    for rows, more in memory_by_queue(folder, threads):
        each = f"{more / 1024 / rows:.1f}" if rows else ""
        table.add_row(str(rows), f"{more / MIB:.1f}", each)
    return table


def _loaded(folder: Path) -> ImageModel[Any]:
    return load_model(open_checkpoint(folder), device="cpu", dtype="auto")


if __name__ == "__main__":
    main()
