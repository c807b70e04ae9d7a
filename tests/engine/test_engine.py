"""The engine with real worker processes and fake models: life, work and death in good order."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psutil
import pytest

from app.engine import Done, Draining, NoMetrics, NotReady, Preview, RequestRefused, UnknownModel
from tests.engine.fakes import ask, draw, expected, fake_engine, running, workers
from tests.engine.recorder import Recorder


async def test_starting_does_not_wait_for_the_models() -> None:
    engine = fake_engine("steady", metrics=NoMetrics())
    await engine.start()
    try:
        assert engine.state == "starting"
        assert list(engine.checkpoints) == ["steady"]
        assert not engine.models
        with pytest.raises(NotReady, match="still loading"):
            engine.submit(ask(), timeout=1)
        await engine.wait_ready()
        assert engine.models["steady"].seed_exact
        assert await draw(engine, ask()) == expected(ask())
    finally:
        await engine.stop()
    assert not workers()


async def test_pictures_previews_and_timings_arrive() -> None:
    recorder = Recorder()
    async with (
        running("steady", metrics=recorder, previews=3) as engine,
        engine.submit(ask(n=2, steps=8), timeout=10, previews=True) as job,
    ):
        events = [event async for event in job]
    previews = [event for event in events if isinstance(event, Preview)]
    done = [event for event in events if isinstance(event, Done)]
    assert {(one.index, one.step) for one in previews} == {
        (index, step) for index in (0, 1) for step in (2, 4, 6)
    }
    assert sorted(one.index for one in done) == [0, 1]
    assert all(one.timings.compute >= 9 * 0.01 for one in done)
    assert all(0 <= one.timings.queue < 1 for one in done)
    assert recorder.count["first_preview"] == 1
    assert recorder.count["finished"] == 2
    assert recorder.idle


async def test_a_crowd_gets_what_each_would_get_alone() -> None:
    recorder = Recorder()
    requests = [
        ask(seed=100 * k, n=1 + k % 4, steps=1 + k % 9, guidance=1.0 + k % 2) for k in range(40)
    ]
    async with running("steady", metrics=recorder, tile=8) as engine:
        answers = await asyncio.gather(*(draw(engine, request) for request in requests))
    assert answers == [expected(request) for request in requests]
    assert recorder.count["joined"] > 0
    assert max(taken for _, taken, _ in recorder.passes) > 1
    assert all(taken <= tile for _, taken, tile in recorder.passes)


async def test_a_model_that_peeks_at_companions_is_found_out() -> None:
    # The inverse of the test above: with such a model it would fail, and the self-test says so.
    recorder = Recorder()
    requests = [ask("peeking", seed=100 * k, n=2, steps=3) for k in range(8)]
    async with running("peeking", metrics=recorder) as engine:
        assert recorder.seed_exact == {"peeking": False}
        assert not engine.models["peeking"].seed_exact
        crowd = await asyncio.gather(*(draw(engine, request) for request in requests))
        alone = [await draw(engine, request) for request in requests]
    assert crowd != alone


async def test_wrong_requests_are_refused() -> None:
    async with running("steady") as engine:
        with pytest.raises(UnknownModel, match="there is steady"):
            engine.submit(ask("other"), timeout=1)
        with pytest.raises(RequestRefused, match="the prompt was refused"):
            await draw(engine, ask(prompt="refuse"))
        assert await draw(engine, ask()) == expected(ask())


async def test_a_slow_model_delays_a_fast_one_by_no_more_than_its_step() -> None:
    async with running("slow", "fast", tile=2) as engine:
        slow = engine.submit(ask("slow", steps=100), timeout=60)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await draw(engine, ask("fast", steps=5))
        took = time.monotonic() - began
        slow.cancel()
    # Six passes of the fast one, a slow step of 0.1 s before each; 10 s if it had to wait.
    assert took < 6 * 0.1 + 1


async def test_workers_share_one_queue() -> None:
    async with running("slow", devices=("cpu", "cpu"), tile=2) as engine:
        assert len(workers()) == 2
        began = time.monotonic()
        await asyncio.gather(*(draw(engine, ask("slow", seed=k, steps=9)) for k in range(2)))
        assert time.monotonic() - began < 2 * 10 * 0.1  # one after the other: a tile has one row


async def test_auto_stands_for_every_device_there_is() -> None:
    async with running("fast", devices=("auto",)):
        assert len(workers()) == 2  # so many devices has the fake


@pytest.mark.parametrize(
    ("model", "settings", "failure"),
    [
        ("broken", {}, "cpu: the weights are not what they should be"),
        ("dying", {}, "cpu: the worker ended with status 71 while it started"),
        ("fast", {"expect_numerics": "abc"}, "fast on cpu has numerics fast-8, expected abc."),
        ("drifting", {"devices": ("cpu", "cpu")}, "drifting would draw other pixels on cpu"),
    ],
)
async def test_a_failed_start_is_reported_once(
    model: str, settings: dict[str, Any], failure: str
) -> None:
    engine = fake_engine(model, metrics=NoMetrics(), **settings)
    await engine.start()
    try:
        with pytest.raises(NotReady, match=failure):
            await engine.wait_ready()
        assert engine.state == "failed"
        assert engine.failure is not None
        with pytest.raises(NotReady, match=failure):
            engine.submit(ask(model), timeout=1)
    finally:
        await engine.stop()
    assert engine.state == "failed"
    assert not workers()


async def test_a_start_that_takes_too_long_has_failed() -> None:
    engine = fake_engine("stuck", metrics=NoMetrics(), start_timeout=0.5)
    await engine.start()
    try:
        with pytest.raises(NotReady, match="said nothing and was killed while it started"):
            await engine.wait_ready()
    finally:
        await engine.stop()


async def test_draining_finishes_what_was_accepted_and_takes_no_more() -> None:
    async with running("steady") as engine:
        answers = [asyncio.create_task(draw(engine, ask(seed=k))) for k in range(12)]
        await asyncio.sleep(0.02)
        drained = asyncio.create_task(engine.drain(10))
        await asyncio.sleep(0)
        assert engine.state == "draining"
        with pytest.raises(Draining):
            engine.submit(ask(), timeout=1)
        assert await drained
        assert await asyncio.gather(*answers) == [expected(ask(seed=k)) for k in range(12)]


async def test_what_a_drain_does_not_finish_is_told_so() -> None:
    async with running("slow") as engine:
        answer = asyncio.create_task(draw(engine, ask("slow", steps=100)))
        await asyncio.sleep(0.02)
        assert not await engine.drain(0.1)
        began = time.monotonic()
        await engine.stop()
        assert time.monotonic() - began < 2
        with pytest.raises(Draining, match="before the picture was finished"):
            await answer


async def test_replaced_workers_leave_no_threads_and_no_files_behind() -> None:
    async with running("fast") as engine:
        this = psutil.Process()

        async def lose_a_worker() -> None:
            (worker,) = workers()
            worker.kill()
            worker.wait()
            assert await draw(engine, ask("fast")) == expected(ask("fast"))

        await lose_a_worker()
        threads, files = this.num_threads(), this.num_fds()
        for _ in range(3):
            await lose_a_worker()
        assert this.num_threads() <= threads
        assert this.num_fds() <= files
