"""What the engine is told once, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine runs. Each field says what changes with it."""

    models: tuple[Path, ...]
    """Checkpoint folders. Every worker loads all of them; the first is the default model."""

    devices: tuple[str, ...] = ("auto",)
    """One worker process for each name: "cpu" or "cuda:N", or ("auto",) for every GPU there is and
    else one "cpu". A name that comes twice gets two workers. See `parse_devices`."""

    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network. Changes numerics; "auto" is what is fast on the device."""

    tile: int | None = None
    """Evaluations in every pass. More is faster under load and slower for one lone picture.
    Changes numerics; None is the default of the device's type."""

    threads: int | None = None
    """CPU threads of each worker. Changes numerics on a CPU; None shares the cores out evenly."""

    cuda_graphs: bool = True
    """On a GPU, replay each kind of pass as one CUDA graph: the host no longer waits to launch its
    kernels one by one. False for a driver that cannot capture them. Changes numerics."""

    max_rows_waiting: int = 256
    """Rows that may wait for a worker. A request that would exceed it is refused at once, so it
    also bounds the pictures of a single request, memory and the longest wait."""

    cache_bytes: int = 64 * 2**20
    """Finished pictures kept in memory, in bytes of pixels. 0 keeps none."""

    previews: int = 7
    """Previews of a picture whose request asks for them, at evenly spaced steps."""

    step_timeout: float = 15.0
    """Seconds without a word from a worker after which it is killed and replaced. Must exceed the
    slowest step, or healthy workers are killed. Notice can take a quarter longer; a row that hangs
    its worker is tried four times, so it fails after about five of these, if its deadline is
    later."""

    start_timeout: float = 300.0
    """Seconds that a worker may take to load its models, warm up and test itself."""

    expect_numerics: str | None = None
    """Comma-separated numerics. Where a loaded model's is not among them, the engine refuses to
    start: for fleets whose replicas must make the same bytes."""


def parse_devices(text: str) -> tuple[str, ...]:
    """Reads "auto", "cpu", "cpu:2" (two workers) or "cuda:0,cuda:1" into `EngineSettings.devices`.

    Raises:
        ValueError: the text is none of these; says what would be.
    """
    accepted = 'expected "auto", "cpu", "cpu:2" (two workers) or a list like "cuda:0,cuda:1"'
    names: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        kind, _, number = part.partition(":")
        if part == "auto" or part == "cpu":
            names.append(part)
        elif kind == "cpu" and number.isdecimal() and int(number) > 0:
            names.extend(["cpu"] * int(number))
        elif kind == "cuda" and number.isdecimal():
            names.append(f"cuda:{int(number)}")
        else:
            raise ValueError(f"unknown device {part!r}: {accepted}")
    if "auto" in names and len(names) > 1:
        raise ValueError(f'"auto" stands alone: {accepted}')
    return tuple(names)
