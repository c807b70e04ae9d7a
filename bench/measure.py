"""What `bench.gpu` measures of a device: its facts, its steps, and what the engine delivers."""

from __future__ import annotations

import asyncio
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from app.engine import Engine, EngineMetrics, EngineSettings
from model.checkpoint import Checkpoint
from model.loading import load_model
from model.protocol import LoadedModel
from model.runtime.benchmark import TileSpeed, measure
from model.runtime.fixed_pass import Mode
from model.runtime.numerics import device_name

ROOT = Path(__file__).resolve().parents[1]


def facts(device: str) -> dict[str, str]:
    """Whatever may explain a figure, in words."""
    found = {"device": device_name(device)}
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "memory": f"{properties.total_memory / 2**30:.1f} GiB",
            "multiprocessors": str(properties.multi_processor_count),
            "compute capability": f"{properties.major}.{properties.minor}",
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
        }
    return found | {
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "CPU": f"{device_name('cpu')}, {torch.get_num_threads()} threads",
        "commit": _commit(),
    }


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Served:
    """A saturated engine, measured."""

    model: LoadedModel
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def measure_served(checkpoint: Checkpoint, *, device: str, images: int) -> Served:
    """Asks for all images at once, each with the model's own defaults."""
    return asyncio.run(_measure(checkpoint, device, images))


async def _measure(checkpoint: Checkpoint, device: str, images: int) -> Served:
    spec = checkpoint.spec
    settings = EngineSettings(
        models=(checkpoint.folder,), devices=(device,), max_rows_waiting=images, cache_bytes=0
    )
    engine = Engine(settings, EngineMetrics())
    await engine.start()
    try:
        await engine.wait_ready()

        async def draw(seed: int) -> None:
            request = spec.request("a picture", seed)
            async with engine.submit([request], timeout=3600) as job:
                async for _ in job:
                    pass

        began = time.monotonic()
        await asyncio.gather(*map(draw, range(images)))
        return Served(engine.models[spec.id], images, time.monotonic() - began)
    finally:
        await engine.stop()


DTYPES: tuple[Literal["bf16", "fp32"], ...] = ("bf16", "fp32")


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One way to run steps, measured at several tiles."""

    dtype: str
    mode: Mode
    speeds: tuple[TileSpeed, ...]


def measure_steps(
    checkpoint: Checkpoint,
    *,
    device: str,
    modes: Sequence[Mode],
    tiles: Sequence[int],
    seconds: float,
) -> Iterator[StepTimes]:
    """Full tiles of guided rows; what the host does for them is part of a step."""
    for dtype in DTYPES:
        for mode in modes:
            speeds = []
            for tile in tiles:
                model = load_model(checkpoint, device=device, dtype=dtype, tile=tile, mode=mode)
                speeds.append(measure(model, seconds))
            yield StepTimes(dtype, mode, tuple(speeds))
