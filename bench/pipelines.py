"""Sixteen requests of mixed steps and guidance: a pipeline of diffusers served, and called.

    python -m bench.pipelines [--tile 2 4 8] [--steps 2 6] [--rounds 3] [--only sd3 flux-dev]

The same pipeline with the same random weights draws the same requests in three ways, in turn, in
one process: by the library's own call, one request after the other; by four threads that share the
pipeline under a lock, as simple servers do; and by Tessera's runner. Tiny networks show what the
code around them costs; middle-sized ones are large enough that the network is the cost. A ratio is
the library's time one at a time over that way's time, the median of all rounds, with the least and
the most beside it. Folders of your own take the place of both: --folder PATH.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.engine.messages import NewRow
from app.engine.runner import Runner
from app.memory import keep_freed_memory
from model.loading import Dtype, load_model
from model.pipelines.arguments import call_arguments
from model.pipelines.checkpoint import PipelineCheckpoint
from model.pipelines.row import own_copy
from model.pipelines.sampler import PipelineModel
from model.request import ImageRequest
from model.runtime import packing
from model.runtime.numerics import configure_determinism
from model.spec import ModelSpec

REQUESTS = 16
THREADS_OF_SERVER = 4

WIDER: dict[str, dict[str, Any]] = {
    "sd3": {
        "num_layers": 4,
        "num_attention_heads": 6,
        "attention_head_dim": 64,
        "caption_projection_dim": 384,
    },
    "flux-dev": {
        "num_layers": 2,
        "num_single_layers": 4,
        "num_attention_heads": 6,
        "attention_head_dim": 64,
        "axes_dims_rope": [16, 24, 24],
    },
    "pixart-sigma": {
        "num_layers": 6,
        "num_attention_heads": 6,
        "attention_head_dim": 64,
        "cross_attention_dim": 384,
    },
    "sana": {
        "num_layers": 6,
        "num_attention_heads": 12,
        "attention_head_dim": 32,
        "num_cross_attention_heads": 6,
        "cross_attention_head_dim": 64,
        "cross_attention_dim": 384,
    },
}
"""What makes a tiny pipeline's transformer a middle-sized one."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast as the library one at a time, over all rounds."""

    rounds: Sequence[float]

    def __str__(self) -> str:
        middle = statistics.median(self.rounds)
        return f"{middle:.2f} ({min(self.rounds):.2f} to {max(self.rounds):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs=2, default=[2, 6], help="fewest and most")
    parser.add_argument("--dtype", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--only", nargs="+", choices=WIDER, default=[*WIDER])
    parser.add_argument("--folder", type=Path, nargs="+", default=[])
    given = parser.parse_args()
    configure_determinism("cpu", given.threads)
    keep_freed_memory()
    tiles = [f"Tessera, tile {tile}" for tile in given.tile]
    table = Table("pipeline", "network", "one at a time, s", "threads and a lock", *tiles)
    console = Console()
    with tempfile.TemporaryDirectory() as home:
        folders = given.folder or [*_made(Path(home), given.only)]
        for folder in folders:
            table.add_row(*measured(folder, given.dtype, given.tile, given.rounds, given.steps))
            console.print(table)


def measured(
    folder: Path, dtype: Dtype, tiles: Sequence[int], rounds: int, steps: tuple[int, int] = (2, 6)
) -> list[str]:
    """A row of the table. ``steps``: the fewest and the most that a request takes."""
    # The library as others call it, with its own products.
    with patch.object(packing, "packs", return_value=False):
        bare = _load(folder, dtype, tiles[0])
    ways: dict[str, Callable[[list[ImageRequest]], None]] = {
        "one": lambda requests: _one_at_a_time(bare, requests),
        "lock": lambda requests: _under_a_lock(bare, requests),
    }
    for tile in tiles:
        model = _load(folder, dtype, tile)
        ways[f"tile {tile}"] = lambda requests, model=model: _stepped(model, requests)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in track(range(rounds + 1), folder.name):  # the first one warms up
        requests = _requests(bare.spec, number, steps)
        for name, draw in ways.items():
            began = time.perf_counter()
            draw(requests)
            if number:
                seconds[name].append(time.perf_counter() - began)
    one = seconds.pop("one")
    network = getattr(bare._pipelines["generate"], bare._checkpoint.entry.network)
    weights = sum(parameter.numel() for parameter in network.parameters())
    ratios = [
        str(Ratio([alone / other for alone, other in zip(one, others, strict=True)]))
        for others in seconds.values()
    ]
    return [folder.name, f"{weights / 1e6:.1f} M", f"{statistics.median(one):.1f}", *ratios]


def _requests(spec: ModelSpec, number: int, steps: tuple[int, int]) -> list[ImageRequest]:
    """With and without guidance, of half the native size; no prompt twice."""
    dice = random.Random(number)
    guidance = spec.parameter("guidance")
    made = []
    for index in range(REQUESTS):
        given: dict[str, Any] = {"steps": float(dice.randint(*steps))}
        if guidance is not None:
            given["guidance"] = dice.choice([guidance.minimum, 3.0, 5.0])
        size = spec.sizes.width // 2, spec.sizes.height // 2
        made.append(spec.request(f"a tree, number {index} of {number}", index, size=size, **given))
    return made


def _one_at_a_time(model: PipelineModel, requests: Sequence[ImageRequest]) -> None:
    with torch.inference_mode():
        for request in requests:
            pipeline = own_copy(model._pipelines["generate"], model._own)
            pipeline(**call_arguments(request, model._checkpoint, pipeline))


def _under_a_lock(model: PipelineModel, requests: Sequence[ImageRequest]) -> None:
    lock = threading.Lock()

    def draw(request: ImageRequest) -> None:
        with lock:
            _one_at_a_time(model, [request])

    with ThreadPoolExecutor(THREADS_OF_SERVER) as threads:
        list(threads.map(draw, requests))


def _stepped(model: PipelineModel, requests: Sequence[ImageRequest]) -> None:
    runner = Runner(model, previews=1)
    for index, request in enumerate(requests):
        runner.add(NewRow(index, request, watched=False, seen=0))
    list(runner.admit())
    while runner.running:
        runner.step()
        list(runner.admit())


def _load(folder: Path, dtype: Dtype, tile: int) -> PipelineModel:
    model = load_model(
        PipelineCheckpoint.open(folder),
        device="cpu",
        dtype=dtype,
        tile=tile,
    )
    assert isinstance(model, PipelineModel)
    return model


def _made(home: Path, names: Sequence[str]) -> Iterator[Path]:
    """The tests' tiny pipelines, and the same with a wider and deeper transformer."""
    from tests.pipelines.makers_a import MAKERS as SOME
    from tests.pipelines.makers_b import MAKERS as OTHERS
    from tests.pipelines.parts import library, randomise

    for name in names:
        tiny = home / f"{name}, tiny"
        (SOME | OTHERS)[name](tiny)
        yield tiny
        pipeline = library.DiffusionPipeline.from_pretrained(tiny)
        network = pipeline.transformer
        config = {**network.config, **WIDER[name]}
        pipeline.transformer = randomise(type(network).from_config(config))
        wide = home / f"{name}, wide"
        pipeline.save_pretrained(wide)
        yield wide


if __name__ == "__main__":
    main()
