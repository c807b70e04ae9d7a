"""Models without torch that do what real ones should not: crash, hang, dawdle, peek at other rows.

They run in real worker processes, named by ``open_device="tests.engine.fakes:FakeDevice"``. A
checkpoint folder's name picks the model's behaviour, a row's prompt what happens to that row:

    crash       its second step kills the process
    hang        its second step never ends
    garble      its second step breaks the pipe's protocol
    refuse      it is not started
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from app.engine import Done, Engine, EngineMetrics, EngineSettings
from app.engine.device import DeviceError
from app.engine.messages import WorkerSettings
from app.engine.selftest import SelfTest
from model.checkpoint import Checkpoint, Placement
from model.protocol import ImageModel, LoadedModel, Pass
from model.request import SEEDS, ImageRequest, Picture
from model.runtime.rungs import Rungs
from model.sizes import Sizes
from model.spec import ModelSpec, Parameter

SIZE = 8
OPENER = "tests.engine.fakes:FakeDevice"


@dataclass(frozen=True)
class Behaviour:
    seconds: float = 0.0  # that a step takes
    peeks: bool = False  # pictures depend on who shares the pass
    drifts: bool = False  # pictures depend on the process
    decodes: bool = False  # pictures take a pass of their own, one at a time
    load: str = ""  # "fail", "die" or "stick"


BEHAVIOURS = {
    "fast": Behaviour(),
    "steady": Behaviour(seconds=0.01),
    "slow": Behaviour(seconds=0.1),
    "decoding": Behaviour(decodes=True),
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
        sizes=Sizes(SIZE, SIZE),
        channels=3,
        parameters=(
            Parameter("steps", 1, 1000, default=4, step=1, description="Steps."),
            Parameter("guidance", 0, 10, default=2, step=0.1, description="Guidance scale."),
        ),
        operations=("generate",),
        max_prompt_tokens=48,
        digest=hashlib.sha256(model.encode()).hexdigest(),
        license="none",
        description="a fake",
    )


def cost(request: ImageRequest) -> int:
    return 2 if request.value("guidance") != 1 and request.prompt else 1


class FakeCheckpoint(Checkpoint):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = spec(folder.name)

    @classmethod
    def open(cls, folder: Path) -> Self:
        return cls(folder)

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    def cost(self, request: ImageRequest) -> int:
        return cost(request)

    def build(self, placement: Placement) -> ImageModel[Any]:
        return FakeModel(self.spec.id, placement.tile)


@dataclass(eq=False)
class FakeRow:
    request: ImageRequest
    state: bytes
    decodes: bool  # whether its picture takes a pass
    step: int = 0
    encoded: bool = False  # the first pass reads the prompt
    decoded: bytes | None = None  # the state as last decoded
    wanted: bool = False  # a preview
    released: bool = False

    @property
    def kind(self) -> str:
        if not self.encoded:
            return "encode"
        drawn = self.decodes and self.step == self.steps and self.decoded != self.state
        return "decode" if drawn or self.wanted else "draw"

    @property
    def evaluations(self) -> int:
        return cost(self.request) if self.kind == "draw" else 1

    @property
    def steps(self) -> int:
        return int(self.request.value("steps"))

    @property
    def done(self) -> bool:
        return self.step == self.steps and (not self.decodes or self.decoded == self.state)


class FakeModel:
    """An `ImageModel` whose pictures are hash chains, one link a step."""

    def __init__(self, name: str, tile: int) -> None:
        self.spec = spec(name)
        self.tile = tile
        self.slots = tile
        self.rungs = Rungs(tile, smaller=False)
        self.behaviour = BEHAVIOURS[name]

    def cost(self, request: ImageRequest) -> int:
        return cost(request)

    def capacity(self, kind: str) -> int:
        return 1 if kind == "decode" else self.tile

    def start(self, request: ImageRequest) -> FakeRow:
        if request.prompt == "refuse":
            raise ValueError("the prompt was refused")
        state = repr((request.prompt, request.seed, request.parameters)).encode()
        return FakeRow(request, state, self.behaviour.decodes)

    def step(self, rows: Sequence[FakeRow]) -> list[Pass]:
        passes = []
        for kind in dict.fromkeys(row.kind for row in rows):
            taken = sum(row.evaluations for row in rows if row.kind == kind)
            if taken > self.capacity(kind):
                raise ValueError(f"{taken} evaluations in a pass of {self.capacity(kind)}")
            size = 1 if kind == "decode" else self.rungs.holding(kind, taken)
            passes.append(Pass(kind, taken, size))
        time.sleep(self.behaviour.seconds)
        for position, row in enumerate(rows):
            if row.kind == "decode":
                row.decoded, row.wanted = row.state, False
                continue
            if row.step == 1:
                self._do_harm(row.request.prompt)
            if self.behaviour.peeks:
                row.state += f"{position} of {len(rows)}".encode()
            if self.behaviour.drifts:
                row.state += str(os.getpid()).encode()
            row.state = hashlib.sha256(row.state).digest()
            row.step += row.encoded
            row.encoded = True
        return passes

    def _do_harm(self, prompt: str) -> None:
        match prompt:
            case "crash":
                os._exit(70)
            case "hang":
                time.sleep(1000)
            case "garble":  # a length, and then no pickle; the pipe is the first argument
                os.write(int(sys.argv[1]), struct.pack("!i", 3) + b"???")
                time.sleep(1000)

    def preview(self, row: FakeRow) -> None:
        row.wanted = row.decodes

    def result(self, row: FakeRow) -> Picture:
        assert row.kind != "decode"
        state = row.decoded if row.decodes else row.state
        assert state is not None
        count = SIZE * SIZE * self.spec.channels
        pixels = (state * (count // len(state) + 1))[:count]
        return Picture(SIZE, SIZE, self.spec.channels, pixels)

    def release(self, row: FakeRow) -> None:
        row.released = True


def settings(model: str) -> WorkerSettings:
    """Of a worker with a `FakeDevice`."""
    return WorkerSettings(OPENER, "cpu", EngineSettings(models=(Path(model),), threads=1))


class FakeDevice:
    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.names = ("cpu", "cpu") if settings.device == "auto" else (settings.device,)

    def load(self, folder: Path) -> FakeModel:
        match BEHAVIOURS[folder.name].load:
            case "fail":
                raise RuntimeError("the weights are not what they should be")
            case "die":
                os._exit(71)
            case "stick":
                time.sleep(60)
        return FakeModel(folder.name, self.settings.engine.tile or 8)

    def describe(self, model: ImageModel[Any], test: SelfTest) -> LoadedModel:
        name = model.spec.id
        numerics = str(os.getpid()) if BEHAVIOURS[name].drifts else f"{name}-{model.tile}"
        return LoadedModel(
            model.spec,
            numerics,
            test.seed_exact,
            model.tile,
            model.slots,
            self.settings.device,
            "fp32",
        )

    def explain(self, error: Exception, doing: str) -> DeviceError | None:
        if isinstance(error, MemoryError):
            return DeviceError(f"no memory left {doing}")
        return None

    def memory(self) -> int:
        return 0

    def after_a_pause(self) -> AbstractContextManager[None]:
        return nullcontext()


_before: set[int] = set()  # processes of this one when a test's engine was made


def fake_engine(*models: str, metrics: EngineMetrics | None = None, **settings: Any) -> Engine:
    """An engine of real worker processes with fake models in them."""
    _before.clear()
    _before.update(process.pid for process in psutil.Process().children())
    settings.setdefault("devices", ("cpu",))
    return Engine(
        EngineSettings(models=tuple(map(Path, models)), **settings),
        metrics or EngineMetrics(),
        open_checkpoint=FakeCheckpoint.open,
        open_device=OPENER,
    )


@asynccontextmanager
async def running(
    *models: str, metrics: EngineMetrics | None = None, **settings: Any
) -> AsyncIterator[Engine]:
    """An engine of fakes, ready; stopped at the end."""
    async with started(fake_engine(*models, metrics=metrics, **settings)) as engine:
        await engine.wait_ready()
        yield engine


@asynccontextmanager
async def started(engine: Engine) -> AsyncIterator[Engine]:
    """An engine, started; stopped at the end."""
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def workers() -> list[psutil.Process]:
    """The worker processes of the last `fake_engine`, not those of whatever ran before."""
    return [
        child
        for child in psutil.Process().children()
        if child.pid not in _before and "app.engine.worker" in child.cmdline()
    ]


async def draw(engine: Engine, requests: Sequence[ImageRequest]) -> list[Picture]:
    """The pictures of a job, in the order of its requests."""
    async with engine.submit(requests, timeout=60, cacheable=False) as job:
        pictures = {
            event.index: event.result
            async for event in job
            if isinstance(event, Done) and isinstance(event.result, Picture)
        }
    return [pictures[index] for index in range(len(requests))]


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits for something to come true that happens in other processes."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


def expected(requests: Sequence[ImageRequest]) -> list[Picture]:
    """What a well-behaved fake answers."""
    return [drawn(request) for request in requests]


def drawn(request: ImageRequest) -> Picture:
    """The picture that a well-behaved fake draws."""
    fake = FakeModel("fast", tile=2)
    row = fake.start(request)
    while not row.done:
        fake.step([row])
    return fake.result(row)


def request(
    model: str = "steady", seed: int = 1, *, prompt: str = "a", **given: Any
) -> ImageRequest:
    """What matters to the test is given; guidance is 2 and there are 4 steps."""
    return spec(model).request(prompt, seed, **given)


def ask(
    model: str = "steady", seed: int = 1, *, n: int = 1, prompt: str = "a", **given: Any
) -> list[ImageRequest]:
    """The same for ``n`` consecutive seeds."""
    return [request(model, (seed + k) % SEEDS, prompt=prompt, **given) for k in range(n)]
