"""What happens to accepted requests when their worker dies, hangs, or is killed by one of them.

Real worker processes, fake models. If these fail, an accident that no client caused becomes an
error that every client sees.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from app.engine import Engine, WorkerCrashed
from model.request import ImageRequest, Picture
from tests.engine.fakes import ask, draw, expected, running, until, workers
from tests.engine.recorder import Recorder


def worker() -> psutil.Process:
    """The only worker."""
    (process,) = workers()
    return process


async def kill_worker(recorder: Recorder) -> None:
    """Kills the only worker and waits until that is known.

    All that it reported is counted by then: what is counted later, its successor did.
    """
    restarts = recorder.restarts["crashed"]
    worker().kill()
    await until(lambda: recorder.restarts["crashed"] > restarts)


async def until_stepped(recorder: Recorder, steps: int = 3) -> None:
    """Waits until a few more steps are done."""
    enough = recorder.count["stepped"] + steps
    await until(lambda: recorder.count["stepped"] >= enough)


def many(count: int, steps: int) -> list[list[ImageRequest]]:
    """That many requests, of one and two images, of ``steps`` to ``steps + 4`` steps."""
    return [ask(seed=100 * k, n=1 + k % 2, steps=steps + k % 5) for k in range(count)]


def ask_many(engine: Engine, count: int, steps: int = 10) -> list[asyncio.Task[list[Picture]]]:
    return [asyncio.create_task(draw(engine, images)) for images in many(count, steps)]


def expect_many(count: int, steps: int = 10) -> list[list[Picture]]:
    return [expected(images) for images in many(count, steps)]


async def test_a_worker_killed_in_the_middle_of_32_requests() -> None:
    recorder = Recorder()
    async with running("steady", metrics=recorder) as engine:
        answers = ask_many(engine, 32)
        await until_stepped(recorder)
        await kill_worker(recorder)
        assert await asyncio.gather(*answers) == expect_many(32)
    assert recorder.restarts == {"crashed": 1}
    assert recorder.count["replayed"] > 0
    assert recorder.idle


async def test_a_worker_killed_three_times(full: bool) -> None:
    count = 100 if full else 40
    recorder = Recorder()
    async with running("steady", metrics=recorder) as engine:
        answers = ask_many(engine, count)
        for _ in range(3):
            await until_stepped(recorder)
            await kill_worker(recorder)
        assert await asyncio.gather(*answers) == expect_many(count)
    assert recorder.restarts == {"crashed": 3}
    assert recorder.idle


async def test_a_worker_killed_again_while_it_computes_the_same_rows_again() -> None:
    recorder = Recorder()
    async with running("steady", metrics=recorder) as engine:
        answers = ask_many(engine, 4, steps=50)
        await until_stepped(recorder)
        await kill_worker(recorder)
        await until_stepped(recorder, steps=1)
        await kill_worker(recorder)
        assert await asyncio.gather(*answers) == expect_many(4, steps=50)
    assert recorder.restarts == {"crashed": 2}
    assert recorder.count["replayed"] == 2 * 4  # all slots, each time


async def test_a_stopped_worker_is_replaced_and_blocks_nobody() -> None:
    recorder = Recorder()
    async with running("steady", metrics=recorder, step_timeout=1.5) as engine:
        answers = ask_many(engine, 8)
        await until_stepped(recorder)
        async with loop_watched() as lags:
            worker().send_signal(signal.SIGSTOP)
            answers += ask_many(engine, 32)[8:]
            assert await asyncio.gather(*answers) == expect_many(32)
    assert recorder.restarts == {"silent": 1}
    assert max(lags) < 1  # 1.5 s where the loop waits for the pipe; the rest is a busy machine


async def test_a_worker_stopped_while_idle_is_replaced() -> None:
    # The next job then does not pay for the timeout.
    recorder = Recorder()
    async with running("fast", metrics=recorder, step_timeout=1.5) as engine:
        worker().send_signal(signal.SIGSTOP)
        await until(lambda: recorder.restarts)
        assert await draw(engine, ask("fast")) == expected(ask("fast"))


async def test_a_healthy_worker_outlives_many_timeouts() -> None:
    # The inverse of the two above: silence is what kills, not time.
    recorder = Recorder()
    async with running("fast", metrics=recorder, step_timeout=1.5) as engine:
        await asyncio.sleep(4)
        assert await draw(engine, ask("fast")) == expected(ask("fast"))
    assert not recorder.restarts


@pytest.mark.parametrize("poison", ["crash", "hang", "garble"])
async def test_a_poisonous_row_fails_alone(poison: str) -> None:
    recorder = Recorder()
    async with running("steady", metrics=recorder, step_timeout=1.5) as engine:
        healthy = ask_many(engine, 3)
        poisoned = asyncio.create_task(draw(engine, ask(prompt=poison, steps=10)))
        healthy += ask_many(engine, 6)[3:]
        with pytest.raises(WorkerCrashed):
            await poisoned
        assert await asyncio.gather(*healthy) == expect_many(6)
        with pytest.raises(WorkerCrashed, match="10 minutes"):
            engine.submit(ask(prompt=poison, steps=10), timeout=1)
        assert await draw(engine, ask(seed=7)) == expected(ask(seed=7))
    assert recorder.restarts == {"silent" if poison == "hang" else "crashed": 4}
    assert recorder.idle


async def test_abandoned_rows_leave_within_two_steps() -> None:
    recorder = Recorder()
    async with running("slow", metrics=recorder) as engine:
        jobs = [engine.submit(ask("slow", seed=k, steps=50), timeout=60) for k in range(50)]
        await until_stepped(recorder, steps=2)
        before = recorder.count["stepped"]
        for job in jobs:
            job.cancel()
        await until(lambda: recorder.idle)
        assert recorder.count["stepped"] <= before + 2
    assert recorder.count["cancelled"] == 50
    assert recorder.count["finished"] == 0


async def test_a_signal_to_the_worker_alone_is_left_to_its_parent() -> None:
    recorder = Recorder()
    async with running("steady", metrics=recorder) as engine:
        answers = ask_many(engine, 8)
        await until_stepped(recorder)
        for each in (signal.SIGINT, signal.SIGTERM):
            worker().send_signal(each)
        assert os.getpgid(worker().pid) != os.getpgid(0)
        assert await asyncio.gather(*answers) == expect_many(8)
    assert not recorder.restarts


@asynccontextmanager
async def loop_watched() -> AsyncIterator[list[float]]:
    """How late the event loop was, each time it was asked."""
    lags = [0.0]

    async def watch() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - began - 0.01)

    task = asyncio.create_task(watch())
    try:
        yield lags
    finally:
        task.cancel()
