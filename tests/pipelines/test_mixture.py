"""Many requests of two pipelines and one of our own models, in one process, under accidents.

If these fail, what some clients break off costs others their images, or leaves something behind in
the worker: a run that waits for ever, a row, memory.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.clients import metric, until, workers
from tests.pipelines.questions import questions
from tests.service.running import Service, running
from tests.tiny import PROMPTS

pytestmark = pytest.mark.timeout(900)

LEAVING = 0.3
"""Of all clients. They break off at random moments, some before the image's first step."""

GROWTH = 4 * 2**20
"""Bytes. Rounds after the first were seen to add 0.5 MiB at most, which is the allocator's; runs
that are not closed when their clients leave, 9 MiB each round."""


@dataclass(frozen=True)
class Request:
    """Of an image, as JSON, or as an event stream with previews."""

    body: dict[str, Any]
    events: bool

    async def image(self, http: httpx.AsyncClient) -> bytes:
        """The file. Fails unless it is answered."""
        if not self.events:
            answer = await http.post("/v1/images", json=self.body)
            assert answer.status_code == 200, answer.text
            return answer.content
        accept = {"Accept": "text/event-stream"}
        body = {**self.body, "previews": True}
        answer = await http.post("/v1/images", json=body, headers=accept)
        assert answer.status_code == 200, answer.text
        _, image = answer.text.split("event: image\ndata: ")
        return base64.b64decode(json.loads(image.partition("\n")[0])["b64_json"])


@pytest.fixture(scope="module")
def models(folders: Mapping[str, Path], tiny_models: dict[str, Path]) -> list[Path]:
    return [folders["sd3"], folders["z-image"], tiny_models["flow"]]


@pytest.fixture(scope="module")
def requests(models: list[Path], full: bool) -> list[Request]:
    """In random order, of unequal steps, guidance and prompts; a third of each model's."""
    *pipelines, flow = models
    count = 100 if full else 48
    bodies = [one.body for folder in pipelines for one in questions(folder, count // 3)]
    while len(bodies) < count:
        seed = len(bodies)
        bodies.append(
            {
                "model": flow.name,
                "prompt": PROMPTS[seed % len(PROMPTS)],
                "seed": seed,
                "steps": 2 + seed % 9,
                "guidance": 1 + seed % 3,
            }
        )
    random.Random(16).shuffle(bodies)
    return [Request(body, events=index % 4 == 0) for index, body in enumerate(bodies)]


@pytest.fixture(scope="module")
def counting(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """See `tests.pipelines.counting`. It keeps no images: everything is computed."""
    settings = {
        "MODELS": ",".join(map(str, models)),
        "CACHE_BYTES": "0",
        "FILE_CACHE_BYTES": "0",
        "MAX_ROWS_WAITING": "1000",
        "REQUEST_TIMEOUT": "600",
    }
    log = tmp_path_factory.mktemp("service") / "log"
    with running(models[0], log, ("tests.pipelines.counting",), **settings) as service:
        yield service.await_ready(patience=300)


async def alive(http: httpx.AsyncClient) -> float:
    """Greenlets and rows in the last step of an image that is drawn by itself."""

    async def idle() -> bool:
        rows = [await metric(http, f"rows_{where}") for where in ("waiting", "running")]
        return sum(rows) == 0

    await until(idle)
    answer = await http.post("/v1/images", json={"model": "sd3", "seed": 1, "steps": 3})
    assert answer.status_code == 200, answer.text
    return await metric(http, "device_memory_bytes")


async def crowd(
    http: httpx.AsyncClient, requests: Sequence[Request], seed: int
) -> list[bytes | None]:
    """All at once; None for those whose clients have left."""
    dice = random.Random(seed)
    tasks = [asyncio.create_task(request.image(http)) for request in requests]
    leaving = dice.sample(tasks, int(LEAVING * len(tasks)))
    begun = await metric(http, "images_total")
    for after in sorted(dice.randrange(len(tasks) - len(leaving)) for _ in leaving):

        async def drawn(after: int = after) -> bool:
            return await metric(http, "images_total") >= begun + after

        await until(drawn)
        leaving.pop().cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, Exception):  # a CancelledError is none
            raise answer
    return [answer if isinstance(answer, bytes) else None for answer in answers]


@contextlib.asynccontextmanager
async def meanwhile(do: Callable[[], Any]) -> AsyncIterator[list[Any]]:
    """Calls it again and again; what it returned."""
    found: list[Any] = []

    async def repeat() -> None:
        while True:
            found.append(await do())
            await asyncio.sleep(0.05)

    task = asyncio.create_task(repeat())
    try:
        yield found
    finally:
        task.cancel()


async def test_all_that_wait_are_answered_with_the_bytes_that_they_have_alone(
    counting: Service, requests: list[Request], full: bool
) -> None:
    """While others leave, and the worker is killed at random moments."""
    kills = 2 if full else 1
    dice = random.Random()
    async with counting.client() as http:
        first = await alive(http)
        alone = [await request.image(http) for request in requests]
        assert len(set(alone)) == len(requests)
        assert await alive(http) == first
        cancelled = await metric(http, "cancellations_total")
        begun = await metric(http, "images_total")

        async def kill(number: int, after: int) -> None:
            async def time_has_come() -> bool:
                done = await metric(http, "images_total") >= begun + after
                return done and await metric(http, "rows_running") > 0

            await until(time_has_come)
            workers(counting)[0].kill()

            async def restarted() -> bool:
                return await metric(http, "worker_restarts_total") == number

            await until(restarted)

        async with meanwhile(lambda: metric(http, "device_memory_bytes")) as counts:
            answering = asyncio.create_task(crowd(http, requests, seed=1))
            span = len(requests) * 3 // 10
            for turn in range(kills):
                await kill(turn + 1, after=dice.randrange(turn * span, (turn + 1) * span))
            answers = await answering
        assert max(counts) > first, "what is counted are the rows of all who wait"
        left = sum(answer is None for answer in answers)
        assert 0 < left <= LEAVING * len(requests)

        async def noticed() -> bool:
            return await metric(http, "cancellations_total") > cancelled

        await until(noticed)  # the last to leave may have left just now
        expected = [
            one if answer is not None else None for one, answer in zip(alone, answers, strict=True)
        ]
        assert answers == expected
        assert await metric(http, "worker_restarts_total") == kills
        assert await metric(http, "replays_total") > 0
        assert await alive(http) == first


async def test_nothing_is_left_of_them(
    counting: Service, requests: list[Request], full: bool
) -> None:
    """No greenlet, no row, no memory that another round would add to."""
    async with counting.client() as http:
        first = await alive(http)
        held: list[int] = []
        for round_ in range(6 if full else 2):
            await crowd(http, requests, seed=10 + round_)
            assert await alive(http) == first
            [worker] = workers(counting)
            held.append(worker.memory_info().rss)
    assert max(held) - held[0] < GROWTH, held
