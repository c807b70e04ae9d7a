"""If these fail, a reader misses its image, or a slow one costs memory without end."""

import asyncio

import pytest

from app.engine import Done, Job, Preview, Progress, Timings, WorkerCrashed
from model.request import Picture
from tests.engine.fakes import ask

PICTURE = Picture(1, 1, 1, b"x")


class Ended:
    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> None:
        self.jobs.append(job)


def job(n: int = 1, ended: Ended | None = None) -> Job:
    return Job(ask(n=n), accepted=0.0, previews=True, on_end=ended or Ended())


def done(index: int) -> Done:
    return Done(index, PICTURE, Timings(0.0, 0.0))


async def test_it_ends_after_one_image_each() -> None:
    ended = Ended()
    one = job(n=2, ended=ended)
    one.put(done(1))
    assert not one.finished
    one.put(done(0))
    assert ended.jobs == [one]
    assert [event async for event in one] == [done(1), done(0)]


async def test_a_slow_reader_sees_the_latest_events_and_every_image() -> None:
    one = job(n=2)
    for step in range(1, 1000):
        one.put(Progress(0, step, 1000))
        one.put(Preview(0, step, 1000, PICTURE))
    one.put(Progress(1, 5, 1000))
    one.put(done(1))
    assert [await anext(one) for _ in range(3)] == [
        Progress(0, 999, 1000),
        Preview(0, 999, 1000, PICTURE),
        done(1),
    ]


async def test_a_reader_without_use_for_progress_does_not_see_it() -> None:
    one = job()
    one.progress = False
    one.put(Progress(0, 1, 4))
    reading = asyncio.ensure_future(anext(one))
    one.put(Progress(0, 2, 4))
    await asyncio.sleep(0)
    assert not reading.done()
    one.put(Preview(0, 2, 4, PICTURE))
    one.put(Progress(0, 3, 4))
    one.put(done(0))
    assert [await reading, *[event async for event in one]] == [done(0)]


async def test_an_error_is_raised_after_the_images_that_were_made() -> None:
    one = job(n=2)
    one.put(done(0))
    one.fail(WorkerCrashed("it crashed"))
    assert await anext(one) == done(0)
    with pytest.raises(WorkerCrashed):
        await anext(one)


async def test_a_waiting_reader_wakes() -> None:
    one = job()
    reader = asyncio.create_task(anext(one))
    await asyncio.sleep(0)
    one.put(done(0))
    assert await reader == done(0)


async def test_leaving_the_context_gives_up_once() -> None:
    ended = Ended()
    async with job(ended=ended) as one:
        pass
    one.cancel()
    one.put(done(0))
    assert ended.jobs == [one]
    assert [event async for event in one] == []
