"""Promise 1: the same request gives the same pixels, whoever shares the batch. And the inverse:
where the fixed tile is switched off, the same tests find differences, so they are able to."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine import Engine, EngineMetrics, EngineSettings
from app.engine.selftest import examine
from model.flow.sampler import FlowSampler
from model.loading import Dtype, load_model
from model.registry import open_checkpoint, shipped
from model.request import SEEDS, ImageRequest
from model.spec import ModelSpec
from tests.crowd import in_a_crowd_and_alone
from tests.devices import DEVICES, configured
from tests.engine.fakes import draw, started
from tests.engine.recorder import Recorder
from tests.free_batch import OPENER, FreeBatch, library_products
from tests.tiny import tiny_flow

PROMPTS = ["", "red apple, noto style", "blue square", "绿色圆形"]


def mixed(spec: ModelSpec, count: int, *, steps: int = 12) -> list[list[ImageRequest]]:
    """Jobs that have nothing in common but the model."""
    dice = random.Random(7)
    jobs: list[list[ImageRequest]] = []
    for _ in range(count):
        prompt, seed, n = dice.choice(PROMPTS), dice.randrange(SEEDS), dice.randint(1, 4)
        given: dict[str, Any] = {
            "steps": dice.randint(1, steps),
            "guidance": dice.choice([0.0, 1.0, 2.0, 7.5]),
            "solver_order": dice.choice([1, 2]),
        }
        jobs.append([spec.request(prompt, (seed + k) % SEEDS, **given) for k in range(n)])
    return jobs


@asynccontextmanager
async def running(
    settings: EngineSettings, metrics: EngineMetrics, **options: str
) -> AsyncIterator[Engine]:
    engine = Engine(settings, metrics, **options)  # type: ignore[arg-type]
    async with started(engine):
        await engine.wait_ready()
        yield engine


async def differing(engine: Engine, jobs: list[list[ImageRequest]]) -> int:
    """How many of the jobs, submitted at random times, are answered otherwise than alone."""

    async def answer(requests: list[ImageRequest]) -> list[object]:
        return list(await draw(engine, requests))

    answers = await in_a_crowd_and_alone(answer, jobs, apart=0.01)
    pictures = {picture for images in answers.alone for picture in images}
    assert len(pictures) == sum(map(len, jobs))
    return answers.differing


@pytest.mark.parametrize("device", DEVICES)
async def test_mixed_requests_at_random_times_equal_the_same_ones_alone(
    tmp_path: Path, full: bool, device: str
) -> None:
    recorder = Recorder()
    settings = EngineSettings(
        models=(tiny_flow(tmp_path / "tiny"),), devices=(device,), threads=1, max_rows_waiting=1000
    )
    async with running(settings, recorder) as engine:
        loaded = engine.models["tiny"]
        assert loaded.seed_exact
        assert await differing(engine, mixed(loaded.spec, 200 if full else 40)) == 0
    assert recorder.count["joined"] > 0
    assert recorder.count["left"] > 0


@pytest.mark.parametrize("device", DEVICES)
async def test_without_the_fixed_tile_the_same_requests_differ(device: str) -> None:
    folder = shipped()[0]
    settings = EngineSettings(models=(folder,), devices=(device,), dtype="fp32", threads=1)
    async with running(settings, EngineMetrics(), open_device=OPENER) as engine:
        loaded = engine.models[folder.name]
        jobs = mixed(loaded.spec, 12, steps=4)
        differ = await differing(engine, jobs)
    if not differ:
        pytest.skip(f"0 of {len(jobs)} differ in fp32 with free batches on {loaded.device}")
    assert not loaded.seed_exact, f"the self-test saw nothing where {differ} of {len(jobs)} differ"


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    with configured(request.param) as device:
        yield device


def shipped_model(device: str, dtype: Dtype) -> FlowSampler:
    model = load_model(open_checkpoint(shipped()[0]), device=device, dtype=dtype, tile=8)
    assert isinstance(model, FlowSampler)
    return model


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_shipped_model_passes_the_self_test(device: str, dtype: Dtype) -> None:
    assert examine(shipped_model(device, dtype)).seed_exact


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_without_the_fixed_tile_it_does_not(device: str, dtype: Dtype) -> None:
    with library_products():
        model = shipped_model(device, dtype)
    if examine(FreeBatch.of(model)).seed_exact:
        capability = torch.backends.cpu.get_cpu_capability() if device == "cpu" else device
        pytest.skip(f"{capability} draws the same bits in every batch in {model._dtype}")
