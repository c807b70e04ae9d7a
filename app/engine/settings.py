"""How the engine runs: read once, before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from app.memory import MIB
from model.cores import cores
from model.pipelines.settings import PipelineSettings


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


def split(value: object) -> object:
    """``a,b`` → ``("a", "b")``; what is no text is left as it is.

    Raises ``ValueError`` for commas alone: where nothing opens everything, it must not be a slip.
    """
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if value and not parts:
        raise ValueError("there is nothing between the commas")
    return parts


def _devices(value: object) -> object:
    return parse_devices(value) if isinstance(value, str) else value


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(split)]
Devices = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_devices)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EngineSettings(PipelineSettings):
    """The engine's part of `app.settings.Settings`, which inherits these fields."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    models: Paths = ()
    """Folders of checkpoints or of training runs, names of models that ship, or models of the
    Hugging Face Hub as hf:owner/name@revision, which are downloaded if need be; name=folder gives
    one a name of its own. The first is the default model. Empty: all that ship, flow first."""

    devices: Devices = ("auto",)
    """"auto" takes every GPU, else the CPU; or "cpu", "cpu:2" (two workers), "cuda:0,cuda:1".
    "cuda:0,cuda:0" are two workers on one GPU, each with its models: where images are small and
    steps few, one worker's CPU core cannot keep it busy."""

    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network; "auto" is what is fast on the device. Changes numerics."""

    tile: Annotated[int, Field(ge=2)] | None = None
    """The most evaluations in a pass. More is faster under load, but slower for a few images where
    smaller passes would have other bits (`rungs` in /v1/models has those that do not). Changes
    numerics; without it the type of the device and the model's family decide."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of each worker; without it the cores, no more than a cgroup's quota of CPU time
    fills, are shared out. Changes numerics on CPUs."""

    cuda_graphs: bool = True
    """On a GPU, replay each pass as one CUDA graph rather than launch its kernels one by one. Off
    where the driver cannot capture them. Changes numerics."""

    max_rows_waiting: Annotated[int, Field(ge=1)] = 256
    """Images that may wait; requests beyond are refused at once (503). Bounds memory and wait."""

    cache_bytes: Annotated[int, Field(ge=0)] = 64 * MIB
    """Memory for finished images, as pixels; 0 keeps none. Repeated seeds then cost no model."""

    previews: Annotated[int, Field(ge=1, le=32)] = 7
    """Previews of an image whose request asks for them. Each costs the worker a decoding."""

    step_timeout: Seconds = 15.0
    """A worker silent for so long is killed and replaced; where the self-test's slowest step took
    more than a tenth of it, ten times that step. An image that hangs its worker is tried four
    times, so it fails for that (500, worker_crashed) after about five of these, and with a 504
    where request_timeout is shorter."""

    start_timeout: Seconds = 300.0
    """A worker that loads, warms up and tests itself for longer has failed to start. Weights add
    their size at 50 MB/s to it."""

    expect_numerics: str | None = None
    """Comma-separated. Refuse to start with other numerics: a fleet then makes the same bytes."""

    @property
    def threads_each(self) -> int:
        """CPU threads of a worker."""
        return self.threads or max(1, cores() // max(1, self.devices.count("cpu")))
