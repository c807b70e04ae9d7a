"""The engine with real worker processes and fake models: life, work and death in good order."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import threading
import time
from typing import Any

import psutil
import pytest

from app.engine import (
    DeadlineExceeded,
    Done,
    Draining,
    Job,
    NotReady,
    Preview,
    Progress,
    QueueFull,
    RequestRefused,
    UnknownModel,
    supervisor,
)
from app.engine.messages import Opened
from model.protocol import Description, Label
from model.request import ImageRequest, Picture, Source
from tests.engine.fakes import (
    ask,
    draw,
    expected,
    fake_engine,
    request,
    running,
    started,
    until,
    workers,
)
from tests.engine.recorder import Recorder


class Spawning:
    """`subprocess.Popen` on a machine that now and then has no memory left."""

    def __init__(self) -> None:
        self.refuse = 0  # so many calls
        self.calls = 0
        self._popen = subprocess.Popen

    def __call__(self, *args: Any, **options: Any) -> subprocess.Popen[bytes]:
        self.calls += 1
        if self.refuse:
            self.refuse -= 1
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return self._popen(*args, **options)

    def __len__(self) -> int:
        return self.calls


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Spawning:
    """How often a process was started."""
    spawning = Spawning()
    monkeypatch.setattr(subprocess, "Popen", spawning)
    return spawning


async def test_starting_does_not_wait_for_the_models() -> None:
    engine = fake_engine("steady")
    async with started(engine):
        assert engine.state == "starting"
        assert list(engine.checkpoints) == ["steady"]
        assert not engine.models
        with pytest.raises(NotReady, match="still loading"):
            engine.submit(ask(), timeout=1)
        await engine.wait_ready()
        assert engine.models["steady"].seed_exact
        assert engine.workers == 1
        assert await draw(engine, ask()) == expected(ask())
    assert not workers()


async def test_images_previews_and_timings_arrive() -> None:
    recorder = Recorder()
    async with (
        running("steady", metrics=recorder, previews=3) as engine,
        engine.submit(ask(n=2, steps=8), timeout=10, previews=True) as job,
    ):
        events = [event async for event in job]
    assert job.requests == tuple(ask(n=2, steps=8))
    progress = [event for event in events if isinstance(event, Progress)]
    previews = [event for event in events if isinstance(event, Preview)]
    done = [event for event in events if isinstance(event, Done)]
    assert {(event.index, event.steps) for event in progress} == {(0, 8), (1, 8)}
    assert {(event.index, event.step, event.steps) for event in previews} == {
        (index, step, 8) for index in (0, 1) for step in (2, 4, 6)
    }
    assert sorted(event.index for event in done) == [0, 1]
    assert all(event.timings.compute >= 9 * 0.01 for event in done)
    assert all(0 <= event.timings.queue < 1 for event in done)
    assert recorder.count["first_preview"] == 1
    assert recorder.count["finished"] == 2
    assert recorder.idle


async def test_only_those_who_want_previews_get_them() -> None:
    async with running("steady") as engine:
        with_previews = engine.submit(ask(steps=8), timeout=10, previews=True)
        without = engine.submit(ask(steps=8), timeout=10)
        assert any([isinstance(event, Preview) async for event in with_previews])
        assert not any([isinstance(event, Preview) async for event in without])


@pytest.mark.parametrize("model", ["steady", "decoding"])
async def test_a_crowd_gets_what_each_would_get_alone(model: str) -> None:
    recorder = Recorder()
    jobs = [
        ask(model, seed=100 * k, n=1 + k % 4, steps=1 + k % 9, guidance=1.0 + k % 2)
        for k in range(40)
    ]
    async with running(model, metrics=recorder, tile=8) as engine:
        answers = await asyncio.gather(*(draw(engine, requests) for requests in jobs))
    assert answers == [expected(requests) for requests in jobs]
    assert recorder.count["joined"] > 0
    assert max(each.evaluations for each in recorder.passes) > 1
    assert all(each.evaluations <= each.size for each in recorder.passes)


async def test_a_model_that_peeks_at_other_rows_is_found_out() -> None:
    # The inverse of the test above: with such a model it would fail, and the self-test says so.
    recorder = Recorder()
    jobs = [ask("peeking", seed=100 * k, n=2, steps=3) for k in range(8)]
    async with running("peeking", metrics=recorder) as engine:
        assert recorder.seed_exact == {"peeking": False}
        assert not engine.models["peeking"].seed_exact
        crowd = await asyncio.gather(*(draw(engine, requests) for requests in jobs))
        alone = [await draw(engine, requests) for requests in jobs]
    assert crowd != alone


async def test_wrong_requests_are_refused() -> None:
    async with running("steady") as engine:
        with pytest.raises(UnknownModel, match="there is steady"):
            engine.submit([*ask(), *ask("fast")], timeout=1)
        with pytest.raises(RequestRefused, match="the prompt was refused"):
            await draw(engine, ask(prompt="refuse"))
        with pytest.raises(ValueError, match="at least one request"):
            engine.submit([], timeout=1)
        assert await draw(engine, ask()) == expected(ask())


async def test_a_job_may_ask_several_models() -> None:
    requests = [request("fast"), request("steady"), request("fast", seed=2)]
    async with running("fast", "steady") as engine:
        assert await draw(engine, requests) == expected(requests)


# Deadlines, refusals, memory -----------------------------------------------------------------


async def cached(job: Job) -> list[bool]:
    """Whether each image came from memory, in order of arrival."""
    return [event.cached async for event in job if isinstance(event, Done)]


async def test_a_job_fails_at_its_deadline_and_its_rows_leave() -> None:
    recorder = Recorder()
    async with running("slow", metrics=recorder) as engine:
        job = engine.submit(ask("slow", n=20), timeout=0.05)
        with pytest.raises(DeadlineExceeded, match=r"0\.05 seconds"):
            await cached(job)
        assert recorder.rejections == {"deadline": 1}
        assert await engine.drain(5)
        await until(lambda: recorder.idle)


async def test_a_shared_row_lives_until_the_latest_deadline() -> None:
    async with running("slow") as engine:
        first = engine.submit(ask("slow"), timeout=0.05)
        second = engine.submit(ask("slow"), timeout=60)
        with pytest.raises(DeadlineExceeded):
            await cached(first)
        assert await cached(second) == [False]


async def test_a_refused_job_is_not_waited_for() -> None:
    async with running("steady", max_rows_waiting=1) as engine:
        with pytest.raises(QueueFull):
            engine.submit(ask(n=2), timeout=60)
        assert await engine.drain(0.1)


async def test_finished_images_are_kept_for_equal_requests() -> None:
    recorder = Recorder()
    async with running("fast", metrics=recorder) as engine:
        assert await cached(engine.submit(ask("fast"), timeout=60)) == [False]
        job = engine.submit(ask("fast", n=2), timeout=60)
        events = [event async for event in job if isinstance(event, Done)]
    assert [(event.index, event.cached) for event in events] == [(0, True), (1, False)]
    assert [event.result for event in events] == expected(ask("fast", n=2))
    assert recorder.count["cache_hit"] == 1


async def test_a_job_that_is_wholly_in_memory_is_finished_at_once() -> None:
    async with running("fast") as engine:
        await cached(engine.submit(ask("fast"), timeout=60))
        job = engine.submit(ask("fast"), timeout=60)
        assert job.finished
        assert await cached(job) == [True]
        assert await engine.drain(0.1)


async def test_images_of_random_seeds_are_not_kept() -> None:
    async with running("fast") as engine:
        await cached(engine.submit(ask("fast"), timeout=60, cacheable=False))
        assert await cached(engine.submit(ask("fast"), timeout=60)) == [False]


async def test_without_memory_nothing_is_kept() -> None:
    async with running("fast", cache_bytes=0) as engine:
        for _ in range(2):
            assert await cached(engine.submit(ask("fast"), timeout=60)) == [False]


async def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    limit = 2 * weight(Picture(8, 8, 3, bytes(192)), request("fast"))
    hits: list[int] = []
    async with running("fast", cache_bytes=limit) as engine:
        for seed in (1, 2, 1, 3, 1, 2):
            (hit,) = await cached(engine.submit(ask("fast", seed), timeout=60))
            if hit:
                hits.append(seed)
            assert engine._cache.currsize <= limit
    assert hits == [1, 1]


def weight(result: Picture | Description, request: ImageRequest) -> int:
    """What a result adds to a cache's bytes."""
    engine = fake_engine("fast")
    engine._keep(request, result)
    assert len(engine._cache) == 1
    return int(engine._cache.currsize)


def test_what_is_kept_weighs_its_pixels_and_texts_and_what_was_asked() -> None:
    picture = Picture(10, 10, 4, bytes(400))
    empty = weight(Picture(0, 0, 4, b""), request("fast", prompt=""))
    plain = request("fast", prompt="")
    assert weight(picture, plain) == empty + 400
    assert weight(picture, request("fast", prompt="红苹果")) == empty + 400 + 4 * 3
    source = Source(picture, bytes(100))
    uploaded = ImageRequest("fast", "", 1, 8, 8, operation="inpaint", source=source)
    assert weight(picture, uploaded) == empty + 400 + 400 + 100
    source = Source(picture, others=(picture, picture))
    edited = ImageRequest("fast", "", 1, 8, 8, operation="edit", source=source)
    assert weight(picture, edited) == empty + 400 + 3 * 400
    described = Description("a caption", (Label("one", 0.75), Label("two", 0.25)))
    assert weight(described, plain) == empty + 4 * len("a captiononetwo")


def test_what_is_larger_than_the_memory_pushes_nothing_out() -> None:
    engine = fake_engine("fast", cache_bytes=2000)
    engine._keep(request("fast", 1), Picture(1, 1, 1, b"x"))
    engine._keep(request("fast", 2), Picture(100, 100, 1, bytes(10_000)))
    assert list(engine._cache) == [request("fast", 1)]


# Workers -------------------------------------------------------------------------------------


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
        assert len(workers()) == engine.workers == 2
        began = time.monotonic()
        await asyncio.gather(*(draw(engine, ask("slow", seed=k, steps=9)) for k in range(2)))
        assert time.monotonic() - began < 2 * 10 * 0.1  # one after the other: a tile has one row


async def test_auto_stands_for_every_device_there_is() -> None:
    async with running("fast", devices=("auto",)):
        assert len(workers()) == 2  # so many devices has the fake


async def test_a_device_that_is_found_while_draining_starts_nothing(spawned: Spawning) -> None:
    engine = fake_engine("fast", devices=("auto",))
    async with started(engine):
        assert await engine.drain(1)
        await until(lambda: engine.workers == 1)
        assert len(spawned) == 1


async def test_a_device_that_is_found_after_the_stop_starts_nothing(spawned: Spawning) -> None:
    engine = fake_engine("fast", devices=("auto",))
    async with started(engine):
        (worker,) = engine._supervisors
        await engine.stop()
        worker._on_message(Opened(("cpu", "cpu")))  # read, but not yet seen by the loop
        engine._on_event(worker, Opened(("cpu", "cpu")))
        assert len(spawned) == 1
    assert not workers()


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
    engine = fake_engine(model, **settings)
    async with started(engine):
        with pytest.raises(NotReady, match=failure):
            await engine.wait_ready()
        assert engine.state == "failed"
        assert engine.failure is not None
        with pytest.raises(NotReady, match=failure):
            engine.submit(ask(model), timeout=1)
    assert engine.state == "failed"
    assert not workers()


async def test_a_start_that_takes_too_long_has_failed() -> None:
    engine = fake_engine("stuck", start_timeout=0.5)
    async with started(engine):
        with pytest.raises(NotReady, match="reported nothing and was killed while it started"):
            await engine.wait_ready()


async def test_a_worker_that_cannot_be_spawned_is_tried_again(spawned: Spawning) -> None:
    spawned.refuse = 2
    async with running("fast") as engine:
        assert len(spawned) == 3
        spawned.refuse = 2
        workers()[0].kill()
        assert await draw(engine, ask("fast")) == expected(ask("fast"))
        assert len(spawned) == 6


async def test_it_can_be_stopped_between_two_attempts_to_start_a_worker(
    spawned: Spawning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "backoff", lambda failures: 0.1)
    async with running("fast") as engine:
        spawned.refuse = 1000
        workers()[0].kill()
        await until(lambda: len(spawned) == 3)
        await engine.stop()
        await asyncio.sleep(0.3)
        assert len(spawned) == 3


async def test_a_worker_that_was_ready_is_tried_for_longer_than_a_few_seconds(
    spawned: Spawning, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A want of descriptors that lasted for four seconds once ended a service.
    monkeypatch.setattr(supervisor, "backoff", lambda failures: 0.01)
    refused = 2 * supervisor.START_ATTEMPTS
    async with running("fast") as engine:
        spawned.refuse = refused
        workers()[0].kill()
        assert await draw(engine, ask("fast")) == expected(ask("fast"))
        assert len(spawned) == 1 + refused + 1


async def test_one_that_never_was_ready_is_not(
    spawned: Spawning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "backoff", lambda failures: 0.01)
    spawned.refuse = 1000
    engine = fake_engine("fast")
    async with started(engine):
        with pytest.raises(NotReady, match="could not be spawned"):
            await engine.wait_ready()
    assert len(spawned) == supervisor.START_ATTEMPTS


async def test_a_worker_that_can_never_be_spawned_fails_the_engine(
    spawned: Spawning, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Otherwise the service would look ready for ever, and every request run into its deadline.
    monkeypatch.setattr(supervisor, "START_ATTEMPTS", 3)
    monkeypatch.setattr(supervisor, "START_PATIENCE", 0.0)
    async with running("fast") as engine:
        job = engine.submit(ask("fast", steps=1000, prompt="hang"), timeout=60)
        spawned.refuse = 1000
        workers()[0].kill()
        with pytest.raises(NotReady, match=r"could not be spawned: .*Cannot allocate memory"):
            await cached(job)
        assert engine.state == "failed"
        assert engine.workers == 0
        assert len(spawned) == 1 + 3
    assert "the engine failed: cpu: the worker could not be spawned" in caplog.text


async def test_the_engine_lives_as_long_as_one_worker_does(
    spawned: Spawning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "START_ATTEMPTS", 1)
    monkeypatch.setattr(supervisor, "START_PATIENCE", 0.0)
    async with running("fast", devices=("cpu", "cpu")) as engine:
        spawned.refuse = 1000
        workers()[0].kill()
        await until(lambda: engine.workers == 1 and len(spawned) == 3)
        assert engine.state == "ready"
        assert await draw(engine, ask("fast")) == expected(ask("fast"))


async def test_draining_finishes_what_was_accepted_and_takes_no_more() -> None:
    async with running("steady") as engine:
        answers = [asyncio.create_task(draw(engine, ask(seed=k))) for k in range(12)]
        await asyncio.sleep(0.02)
        drained = asyncio.create_task(engine.drain(10))
        await asyncio.sleep(0)
        assert engine.state == "draining"
        with pytest.raises(Draining):
            engine.submit(ask(seed=12), timeout=1)
        assert await draw(engine, ask(seed=11)) == expected(ask(seed=11))  # is under way
        assert await drained
        assert await asyncio.gather(*answers) == [expected(ask(seed=k)) for k in range(12)]


async def test_what_a_drain_does_not_finish_fails_with_it() -> None:
    async with running("slow") as engine:
        answer = asyncio.create_task(draw(engine, ask("slow", steps=100)))
        await asyncio.sleep(0.02)
        assert not await engine.drain(0.1)
        began = time.monotonic()
        await engine.stop()
        assert time.monotonic() - began < 2
        with pytest.raises(Draining, match="before the image was finished"):
            await answer


async def test_replaced_workers_leave_no_threads_and_no_files_behind() -> None:
    others = set(threading.enumerate())
    async with running("fast") as engine:
        this = psutil.Process()

        async def lose_a_worker() -> None:
            (worker,) = workers()
            worker.kill()
            worker.wait()
            assert await draw(engine, ask("fast")) == expected(ask("fast"))

        def threads() -> int:
            mine = set(threading.enumerate()) - others
            return sum("-worker-" in thread.name for thread in mine)  # the rest come and go

        await lose_a_worker()
        await until(lambda: threads() == 2)
        files = this.num_fds()
        for _ in range(3):
            await lose_a_worker()
        await until(lambda: threads() == 2)
        assert this.num_fds() <= files
