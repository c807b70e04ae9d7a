"""Models without torch that do what real ones should not: crash, hang, dawdle, peek at companions.

They run in real worker processes, named by ``open_device="tests.engine.fakes:open_device"``. A
checkpoint folder's name picks the model's behaviour, a row's prompt what happens to that row:

    crash       its second step kills the process
    hang        its second step never ends
    refuse      it is not started
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil

from app.engine import Done, Engine, EngineMetrics, EngineSettings, ImageRequest, NoMetrics
from app.engine.device import DeviceError, Placed
from app.engine.messages import Admit, Assignment, ToWorker, WorkerSettings
from model.checkpoint import Checkpoint
from model.protocol import ModelSpec, Picture, Range, RowRequest

SIZE = 8


@dataclass(frozen=True)
class Behaviour:
    seconds: float = 0.0  # that a step takes
    peeks: bool = False  # pictures depend on who shares the pass
    drifts: bool = False  # pictures depend on the process
    load: str = ""  # "fail", "die" or "stick"


BEHAVIOURS = {
    "fast": Behaviour(),
    "steady": Behaviour(seconds=0.01),
    "slow": Behaviour(seconds=0.1),
    "peeking": Behaviour(peeks=True),
    "drifting": Behaviour(drifts=True),
    "broken": Behaviour(load="fail"),
    "dying": Behaviour(load="die"),
    "stuck": Behaviour(load="stick"),
}


def spec(model: str) -> ModelSpec:
    return ModelSpec(
        id=model,
        family="fake",
        size=SIZE,
        channels=3,
        steps=Range(1, 1000, 4),
        guidance=Range(0, 10, 2),
        solver="euler",
        operations=("generate",),
        max_prompt_tokens=48,
        digest=hashlib.sha256(model.encode()).hexdigest(),
        licence="none",
        description="a fake",
    )


@dataclass(eq=False)
class FakeRow:
    request: RowRequest
    state: bytes
    step: int = -1  # a first pass reads the prompt
    released: bool = False

    @property
    def kind(self) -> str:
        return "encode" if self.step < 0 else "draw"

    @property
    def evaluations(self) -> int:
        return 1 if self.step < 0 else self.request.places

    @property
    def steps(self) -> int:
        return self.request.steps

    @property
    def done(self) -> bool:
        return self.step == self.steps


class FakeModel:
    """An `ImageModel` whose pictures are hash chains, one link a step."""

    def __init__(self, name: str, tile: int) -> None:
        self.spec = spec(name)
        self.tile = tile
        self.behaviour = BEHAVIOURS[name]

    def start(self, request: RowRequest) -> FakeRow:
        if request.prompt == "refuse":
            raise ValueError("the prompt was refused")
        return FakeRow(request, repr(request).encode())

    def step(self, rows: Sequence[FakeRow]) -> None:
        for kind in ("encode", "draw"):
            taken = sum(row.evaluations for row in rows if row.kind == kind)
            if taken > self.tile:
                raise ValueError(f"{taken} evaluations in a tile of {self.tile}")
        time.sleep(self.behaviour.seconds)
        for place, row in enumerate(rows):
            if row.step == 1 and row.request.prompt == "crash":
                os._exit(70)
            while row.step == 1 and row.request.prompt == "hang":
                time.sleep(1)
            if self.behaviour.peeks:
                row.state += f"{place} of {len(rows)}".encode()
            if self.behaviour.drifts:
                row.state += str(os.getpid()).encode()
            row.state = hashlib.sha256(row.state).digest()
            row.step += 1

    def result(self, row: FakeRow) -> Picture:
        count = SIZE * SIZE * self.spec.channels
        pixels = (row.state * (count // len(row.state) + 1))[:count]
        return Picture(SIZE, SIZE, self.spec.channels, pixels)

    def release(self, row: FakeRow) -> None:
        row.released = True


class FakeDevice:
    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        devices = ("cpu", "cpu") if settings.device == "auto" else (settings.device,)
        self.names = devices

    def load(self, folder: str) -> Placed:
        name = Path(folder).name
        match BEHAVIOURS[name].load:
            case "fail":
                raise RuntimeError("the weights are not what they should be")
            case "die":
                os._exit(71)
            case "stick":
                time.sleep(60)
        model = FakeModel(name, self.settings.tile or 8)
        numerics = str(os.getpid()) if BEHAVIOURS[name].drifts else f"{name}-{model.tile}"
        return Placed(model, numerics, self.settings.device, "fp32")

    def explain(self, error: Exception, doing: str) -> DeviceError | None:
        if isinstance(error, MemoryError):
            return DeviceError(f"no memory left {doing}")
        return None

    def memory(self) -> int:
        return 0


@dataclass(eq=False)
class FakePort:
    """A worker played by hand: remembers what it was sent."""

    device: str = "cpu"
    sent: list[ToWorker] = field(default_factory=list)

    def send(self, message: ToWorker) -> None:
        self.sent.append(message)

    @property
    def assignments(self) -> list[Assignment]:
        return [
            one
            for message in self.sent
            if isinstance(message, Admit)
            for one in message.assignments
        ]

    @property
    def admitted(self) -> list[int]:
        return [one.id for one in self.assignments]


def open_device(settings: WorkerSettings) -> FakeDevice:
    return FakeDevice(settings)


def open_checkpoint(folder: Path) -> Checkpoint:
    return cast("Checkpoint", SimpleNamespace(spec=spec(folder.name), folder=folder))


def fake_engine(*models: str, metrics: EngineMetrics, **settings: Any) -> Engine:
    """An engine of real worker processes with fake models in them."""
    settings.setdefault("devices", ("cpu",))
    return Engine(
        EngineSettings(models=tuple(map(Path, models)), **settings),
        metrics,
        open_checkpoint=open_checkpoint,
        open_device="tests.engine.fakes:open_device",
    )


@asynccontextmanager
async def running(
    *models: str, metrics: EngineMetrics | None = None, **settings: Any
) -> AsyncIterator[Engine]:
    """An engine of fakes, ready; stopped at the end."""
    engine = fake_engine(*models, metrics=metrics or NoMetrics(), **settings)
    await engine.start()
    try:
        await engine.wait_ready()
        yield engine
    finally:
        await engine.stop()


async def draw(engine: Engine, request: ImageRequest) -> list[Picture]:
    """The request's pictures, in the order of their seeds."""
    async with engine.submit(request, timeout=60, cacheable=False) as job:
        pictures = {
            event.index: event.result
            async for event in job
            if isinstance(event, Done) and isinstance(event.result, Picture)
        }
    return [pictures[index] for index in range(request.n)]


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits for something to come true that happens in other processes."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


def workers() -> list[psutil.Process]:
    """The worker processes of this one."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "app.engine.worker" in child.cmdline()
    ]


def expected(request: ImageRequest) -> list[Picture]:
    """What a well-behaved fake answers."""
    return [drawn(row) for row in request.rows()]


def drawn(request: RowRequest) -> Picture:
    """The picture that a well-behaved fake draws."""
    fake = FakeModel("fast", tile=2)
    row = fake.start(request)
    while not row.done:
        fake.step([row])
    return fake.result(row)


def ask(model: str = "steady", **changes: Any) -> ImageRequest:
    """A request, with what matters to the test."""
    fields: dict[str, Any] = {"prompt": "a", "seed": 1, "n": 1, "steps": 4, "guidance": 2.0}
    return ImageRequest(model=model, **(fields | changes))
