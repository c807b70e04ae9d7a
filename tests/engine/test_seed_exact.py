"""Promise 1: the same request gives the same pixels, whoever shares the batch. And the inverse:
where the fixed tile is switched off, the same tests find differences, so they are able to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.engine import Engine, EngineSettings, ImageRequest
from app.engine.selftest import seed_exact
from model.checkpoint import Checkpoint, load_model, shipped
from model.flow.network import PromptEncoding
from model.flow.sampler import FlowRow, FlowSampler
from tests.engine.fakes import draw
from tests.engine.recorder import Recorder
from tests.tiny import tiny_flow

PROMPTS = ["", "red apple, noto style", "blue square", "绿色圆形"]


def mixed(count: int) -> list[ImageRequest]:
    """Requests that have nothing in common but the model."""
    dice = random.Random(7)
    return [
        ImageRequest(
            model="tiny",
            prompt=dice.choice(PROMPTS),
            seed=dice.randrange(2**53),
            n=dice.randint(1, 4),
            steps=dice.randint(1, 12),
            guidance=dice.choice([0.0, 1.0, 2.0, 7.5]),
            solver=dice.choice(["euler", "heun"]),
        )
        for _ in range(count)
    ]


async def test_mixed_requests_at_random_times_equal_the_same_ones_alone(
    tmp_path: Path, full: bool
) -> None:
    recorder = Recorder()
    folder = tiny_flow(tmp_path / "tiny")
    requests = mixed(200 if full else 40)
    dice = random.Random(11)

    async def later(engine: Engine, request: ImageRequest) -> list[bytes]:
        await asyncio.sleep(dice.uniform(0, len(requests) * 0.01))
        return [picture.pixels for picture in await draw(engine, request)]

    settings = EngineSettings(models=(folder,), devices=("cpu",), threads=1, max_rows_waiting=1000)
    engine = Engine(settings, recorder)
    await engine.start()
    try:
        await engine.wait_ready()
        assert engine.models["tiny"].seed_exact
        crowd = await asyncio.gather(*(later(engine, request) for request in requests))
        assert recorder.count["joined"] > 0
        alone = [
            [picture.pixels for picture in await draw(engine, request)] for request in requests
        ]
    finally:
        await engine.stop()
    differ = sum(one != other for one, other in zip(crowd, alone, strict=True))
    assert differ == 0, f"{differ} of {len(requests)} requests"
    assert len({pixels for answer in alone for pixels in answer}) == sum(one.n for one in requests)


class FreeBatch(FlowSampler):
    """The fixed tile switched off: a pass has as many places as it has evaluations."""

    def _denoise(self, rows: Sequence[FlowRow]) -> None:
        self._used = sum(row.evaluations for row in rows)
        super()._denoise(rows)

    def _predict(self, noisy: Tensor, time: Tensor) -> tuple[Tensor]:
        used = PromptEncoding(*(part[: self._used] for part in self._encoding))
        noisy, time = noisy[: self._used].to(self._dtype), time[: self._used]
        return (self._network.denoise(noisy, time, used).float(),)


@pytest.fixture(params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest) -> FlowSampler:
    """The shipped model."""
    loaded = load_model(Checkpoint.open(shipped()[0]), device="cpu", dtype=request.param, tile=8)
    assert isinstance(loaded, FlowSampler)
    return loaded


def test_the_shipped_model_passes_the_self_test(model: FlowSampler) -> None:
    assert seed_exact(model)


def test_without_the_fixed_tile_it_does_not(model: FlowSampler) -> None:
    free = FreeBatch(model.spec, model._network, model._tokenizer, tile=8)
    if seed_exact(free):
        capability, dtype = torch.backends.cpu.get_cpu_capability(), model._dtype
        pytest.skip(f"this CPU ({capability}) draws the same bits in every batch in {dtype}")
