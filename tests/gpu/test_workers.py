"""Workers that own a GPU: what they hold of it, what they free, what they say when it is full."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from app.engine import Engine, EngineMetrics, EngineSettings, NotReady
from model.registry import shipped
from tests.devices import GPU
from tests.engine.fakes import draw, until, workers
from tests.engine.recorder import Recorder
from tests.gpu.cramped import OPENER
from tests.tiny import tiny_flow

pytestmark = pytest.mark.gpu


async def test_a_gpu_without_room_is_explained() -> None:
    settings = EngineSettings(models=(shipped()[0],), devices=(GPU,), dtype="fp32", tile=64)
    engine = Engine(settings, EngineMetrics(), open_device=OPENER)
    await engine.start()
    try:
        with pytest.raises(NotReady, match=r"no memory left while .* was (loaded|tested)") as why:
            await engine.wait_ready()
    finally:
        await engine.stop()
    for helps in ("GiB", "TESSERA_TILE (it is 64)", "TESSERA_DTYPE=bf16"):
        assert helps in str(why.value)


async def kill_at_work(recorder: Recorder) -> None:
    stepped = recorder.count["stepped"]
    await until(lambda: recorder.count["stepped"] > stepped + 2)
    (worker,) = workers()
    worker.kill()


async def test_killed_workers_free_the_gpu_and_their_rows_are_drawn_again(tmp_path: Path) -> None:
    settings = EngineSettings(models=(tiny_flow(tmp_path / "tiny"),), devices=(GPU,), threads=1)
    recorder = Recorder()
    engine = Engine(settings, recorder)
    spec = engine.checkpoints["tiny"].spec
    jobs = [
        [spec.request("red apple", 10 * k + j, steps=40, guidance=2.0) for j in range(2)]
        for k in range(64)
    ]
    await engine.start()
    try:
        await engine.wait_ready()
        assert engine.models["tiny"].device.startswith(GPU)
        undisturbed = [await draw(engine, requests) for requests in jobs]
        before, _ = torch.cuda.mem_get_info(GPU)
        for _ in range(3):
            answers = [asyncio.create_task(draw(engine, requests)) for requests in jobs]
            await kill_at_work(recorder)
            assert await asyncio.gather(*answers) == undisturbed
        free, _ = torch.cuda.mem_get_info(GPU)
        assert free > before - 64 * 2**20, "dead workers left memory behind"
    finally:
        await engine.stop()
    assert recorder.restarts == {"crashed": 3}
