"""Promise 1: the same request gives the same pixels, whoever shares the batch. And the inverse:
where the fixed tile is switched off, the same tests find differences, so they are able to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch

from app.engine import Engine, EngineMetrics, EngineSettings, ImageRequest, NoMetrics
from app.engine.selftest import seed_exact
from model.checkpoint import Checkpoint, load_model, shipped
from model.flow.sampler import FlowSampler
from tests.devices import DEVICES, settled
from tests.engine.fakes import draw
from tests.engine.recorder import Recorder
from tests.free_batch import OPENER, FreeBatch
from tests.tiny import tiny_flow

PROMPTS = ["", "red apple, noto style", "blue square", "绿色圆形"]


def mixed(model: str, count: int, *, steps: int = 12) -> list[ImageRequest]:
    """Requests that have nothing in common but the model."""
    dice = random.Random(7)
    return [
        ImageRequest(
            model=model,
            prompt=dice.choice(PROMPTS),
            seed=dice.randrange(2**53),
            n=dice.randint(1, 4),
            steps=dice.randint(1, steps),
            guidance=dice.choice([0.0, 1.0, 2.0, 7.5]),
            solver=dice.choice(["euler", "heun"]),
        )
        for _ in range(count)
    ]


@asynccontextmanager
async def running(
    settings: EngineSettings, metrics: EngineMetrics, **options: str
) -> AsyncIterator[Engine]:
    engine = Engine(settings, metrics, **options)  # type: ignore[arg-type]
    await engine.start()
    try:
        await engine.wait_ready()
        yield engine
    finally:
        await engine.stop()


async def differing(engine: Engine, requests: list[ImageRequest]) -> int:
    """How many of the requests, sent at random times, are answered otherwise than alone."""
    dice = random.Random(11)

    async def later(request: ImageRequest) -> list[object]:
        await asyncio.sleep(dice.uniform(0, len(requests) * 0.01))
        return list(await draw(engine, request))

    crowd = await asyncio.gather(*map(later, requests))
    alone = [list(await draw(engine, request)) for request in requests]
    pictures = {picture for answer in alone for picture in answer}
    assert len(pictures) == sum(one.n for one in requests)
    return sum(one != other for one, other in zip(crowd, alone, strict=True))


@pytest.mark.parametrize("device", DEVICES)
async def test_mixed_requests_at_random_times_equal_the_same_ones_alone(
    tmp_path: Path, full: bool, device: str
) -> None:
    recorder = Recorder()
    requests = mixed("tiny", 200 if full else 40)
    settings = EngineSettings(
        models=(tiny_flow(tmp_path / "tiny"),), devices=(device,), threads=1, max_rows_waiting=1000
    )
    async with running(settings, recorder) as engine:
        assert engine.models["tiny"].seed_exact
        assert await differing(engine, requests) == 0
    assert recorder.count["joined"] > 0
    assert recorder.count["left"] > 0


@pytest.mark.parametrize("device", DEVICES)
async def test_without_the_fixed_tile_the_same_requests_differ(device: str) -> None:
    folder = shipped()[0]
    requests = mixed(folder.name, 12, steps=4)
    settings = EngineSettings(models=(folder,), devices=(device,), dtype="fp32", threads=1)
    async with running(settings, NoMetrics(), open_device=OPENER) as engine:
        differ = await differing(engine, requests)
        exact = engine.models[folder.name].seed_exact
        where = engine.models[folder.name].device
    if not differ:
        pytest.skip(f"0 of {len(requests)} differ in fp32 with free batches on {where}")
    assert not exact, f"the self-test saw nothing where {differ} of {len(requests)} differ"


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    with settled(request.param) as device:
        yield device


@pytest.fixture(params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, device: str) -> FlowSampler:
    """The shipped model."""
    loaded = load_model(Checkpoint.open(shipped()[0]), device=device, dtype=request.param, tile=8)
    assert isinstance(loaded, FlowSampler)
    return loaded


def test_the_shipped_model_passes_the_self_test(model: FlowSampler) -> None:
    assert seed_exact(model)


def test_without_the_fixed_tile_it_does_not(model: FlowSampler, device: str) -> None:
    if seed_exact(FreeBatch.of(model)):
        capability = torch.backends.cpu.get_cpu_capability() if device == "cpu" else device
        pytest.skip(f"{capability} draws the same bits in every batch in {model._dtype}")
