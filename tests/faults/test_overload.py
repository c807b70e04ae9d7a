"""If these fail, load beyond what the machine can do makes the service slow, large or dead."""

from __future__ import annotations

import asyncio
import gc
import time

import psutil

from app.engine import Engine, QueueFull
from tests.engine.fakes import ask, draw, expected, running, workers
from tests.engine.recorder import Recorder


async def answered(engine: Engine, seed: int) -> bool:
    """Whether the request was answered, rightly, rather than refused."""
    requests = ask("steady", seed=seed)
    try:
        pictures = await draw(engine, requests)
    except QueueFull:
        return False
    assert pictures == expected(requests)
    return True


async def test_ten_times_more_requests_than_the_queue_holds() -> None:
    recorder = Recorder()
    async with running("steady", metrics=recorder, max_rows_waiting=20) as engine:
        began = time.monotonic()
        tasks = [asyncio.create_task(answered(engine, seed)) for seed in range(200)]
        await asyncio.sleep(0)
        assert time.monotonic() - began < 1
        assert sum(task.done() for task in tasks) == recorder.rejections["queue_full"]
        outcomes = await asyncio.gather(*tasks)
    assert outcomes.count(True) + recorder.rejections["queue_full"] == 200
    assert 20 <= outcomes.count(True) <= 20 + 2 * 8
    assert recorder.most_waiting <= 20
    assert recorder.idle


async def test_memory_does_not_grow_with_requests(full: bool) -> None:
    few, many = (500, 5000) if full else (300, 1500)
    async with running("fast", cache_bytes=100_000) as engine:

        async def serve(first: int, last: int) -> None:
            for start in range(first, last, 50):
                jobs = [ask("fast", seed=seed, steps=2) for seed in range(start, start + 50)]
                await asyncio.gather(*(draw(engine, requests) for requests in jobs))

        def resident() -> int:
            gc.collect()
            processes = [psutil.Process(), *workers()]  # not those that other tests share
            return sum(process.memory_info().rss for process in processes)

        await serve(0, few)
        before = resident()
        await serve(few, many)
        assert resident() < 1.05 * before
