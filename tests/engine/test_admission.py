"""If these fail, memory grows with load, equal requests cost twice, or clients wait for nothing."""

from __future__ import annotations

import asyncio

import pytest

from app.engine import DeadlineExceeded, Done, Job, QueueFull, WorkerCrashed
from app.engine.admission import Admission
from app.engine.messages import Finished, Stepped
from app.engine.pace import Pace
from model.protocol import LoadedModel, Picture
from tests.engine.fakes import FakePort, ask, spec
from tests.engine.recorder import Recorder

PICTURE = Picture(1, 1, 1, b"x")


class Stage:
    """An admission with one worker, played by hand."""

    def __init__(self, max_rows: int = 4, cache_bytes: int = 10_000) -> None:
        self.recorder = Recorder()
        self.admission = Admission(
            ("m",), max_rows=max_rows, cache_bytes=cache_bytes, metrics=self.recorder
        )
        self.port = FakePort()

    def work(self) -> None:
        """A worker joins and takes what waits."""
        loaded = LoadedModel(spec("m"), "n", True, 4, "cpu", "fp32")
        self.admission.dispatcher.add(self.port, {"m": loaded})

    def finish(self, *rows: int) -> None:
        done = tuple(Finished(row, PICTURE, 0.0) for row in rows)
        self.admission.hear(self.port, Stepped("m", 0.0, 1.0, 4, (1,), 0, 0, (), (), done, 0))

    def submit(self, *, timeout: float = 60.0, cacheable: bool = True, **changes: int) -> Job:
        request = ask("m", guidance=1.0, **changes)
        return self.admission.submit(request, timeout=timeout, previews=False, cacheable=cacheable)


async def pictures(job: Job) -> list[bool]:
    """Whether each picture came from memory, in order of arrival."""
    return [event.cached async for event in job if isinstance(event, Done)]


async def test_the_queue_is_bounded_in_rows() -> None:
    stage = Stage(max_rows=4)
    stage.submit(seed=10, n=3)
    with pytest.raises(QueueFull) as refused:
        stage.submit(seed=20, n=2)
    assert refused.value.retry_after > 0
    stage.submit(seed=30, n=1)
    assert stage.recorder.rejections == {"queue_full": 1}
    assert stage.recorder.waiting["m"] == 4


async def test_a_refused_request_leaves_nothing_behind() -> None:
    stage = Stage(max_rows=1)
    with pytest.raises(QueueFull):
        stage.submit(n=2)
    assert stage.admission.idle.is_set()
    stage.submit(n=1)


async def test_equal_requests_share_a_row_until_the_last_one_leaves() -> None:
    stage = Stage()
    first, second = stage.submit(), stage.submit()
    stage.work()
    assert len(stage.port.assignments) == 1
    assert stage.recorder.count["coalesced"] == 1
    first.cancel()
    assert stage.recorder.running["m"] == 1
    stage.finish(stage.port.assignments[0].id)
    assert await pictures(second) == [False]
    assert stage.admission.idle.is_set()


async def test_overlapping_requests_share_what_they_have_in_common() -> None:
    stage = Stage()
    stage.submit(seed=1, n=2)
    stage.submit(seed=2, n=2)
    stage.work()
    assert sorted(one.request.seed for one in stage.port.assignments) == [1, 2, 3]


async def test_sharing_does_not_need_room_in_the_queue() -> None:
    stage = Stage(max_rows=1)
    stage.submit()
    stage.submit()


async def test_finished_pictures_are_kept_for_equal_requests() -> None:
    stage = Stage()
    stage.work()
    job = stage.submit()
    stage.finish(stage.port.assignments[0].id)
    assert await pictures(job) == [False]
    assert await pictures(stage.submit()) == [True]
    assert stage.recorder.count["cache_hit"] == 1


async def test_pictures_of_random_seeds_are_not_kept() -> None:
    stage = Stage()
    stage.work()
    stage.submit(cacheable=False)
    stage.finish(stage.port.assignments[0].id)
    stage.submit()
    assert len(stage.port.assignments) == 2


async def test_a_request_fails_at_its_deadline_and_its_rows_leave() -> None:
    stage = Stage()
    job = stage.submit(timeout=0.01)
    with pytest.raises(DeadlineExceeded, match=r"0\.01 seconds"):
        await pictures(job)
    assert stage.recorder.rejections == {"deadline": 1}
    assert stage.recorder.idle


async def test_a_shared_row_lives_until_the_latest_deadline() -> None:
    stage = Stage()
    stage.submit(timeout=0.01)
    job = stage.submit(timeout=60.0)
    await asyncio.sleep(0.05)
    stage.work()
    stage.finish(stage.port.assignments[0].id)
    assert await pictures(job) == [False]


async def test_a_poisonous_row_is_refused_afterwards() -> None:
    stage = Stage()
    job = stage.submit()
    for _ in range(4):
        stage.work()
        stage.admission.dispatcher.lose(stage.port)
    with pytest.raises(WorkerCrashed):
        await pictures(job)
    with pytest.raises(WorkerCrashed, match="10 minutes"):
        stage.submit()
    assert stage.recorder.rejections == {"poisonous": 1}
    assert stage.recorder.idle
    stage.submit(seed=2)


def test_the_pace_is_that_of_the_workers_not_of_the_clock() -> None:
    pace = Pace()
    assert pace.seconds_for(100, workers=1) == 5.0  # nothing is known
    for _ in range(50):
        pace.stepped(finished=1, seconds=0.1)
        pace.stepped(finished=0, seconds=0.1)
    assert pace.seconds_for(100, workers=1) == pytest.approx(20.0)
    assert pace.seconds_for(100, workers=4) == pytest.approx(5.0)
    assert pace.seconds_for(1, workers=1) == 1.0
    assert pace.seconds_for(10_000, workers=1) == 60.0
