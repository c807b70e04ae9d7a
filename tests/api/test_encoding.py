"""If these fail, a model that draws faster than files are written fills the memory, and answers
come after their deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.generation import output, service
from app.generation.editing import budget
from app.metrics import Metrics
from app.settings import Settings
from tests.api.application import (
    application,
    asking_app,
    asking_fakes,
    error,
    events,
    metric,
)
from tests.engine.fakes import fake_engine, started

BODY = {"prompt": "a", "n": 2}
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is encoded until it is set."""
    gate = threading.Event()
    encode = output.encode

    def slowly(*given: Any) -> bytes:
        gate.wait(30)
        return encode(*given)

    monkeypatch.setattr(service, "encode", slowly)
    yield gate
    gate.set()


async def test_its_queue_is_bounded(gate: threading.Event) -> None:
    settings = Settings(encode_memory_bytes=4096, rate_limit="100000/hour")
    async with asking_fakes("fast", settings=settings) as client:
        asked = [asyncio.create_task(client.post("/v1/images", json=BODY)) for _ in range(20)]
        while not any(task.done() for task in asked):
            asked.append(asyncio.create_task(client.post("/v1/images", json=BODY)))
            await asyncio.sleep(0.05)
        refused = next(task for task in asked if task.done()).result()
        assert (refused.status_code, error(refused)["code"]) == (503, "queue_full")
        assert "wait to be encoded, of at most 4096" in error(refused)["message"]
        assert int(refused.headers["retry-after"]) >= 1
        assert await metric(client, 'rejections_total{reason="encoding_full"}') > 0
        assert await metric(client, "encode_waiting_bytes") >= 4096
        gate.set()
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200, 503}
        assert await metric(client, "encode_waiting_bytes") == 0
        assert (await client.post("/v1/images", json=BODY)).status_code == 200


@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_it_has_what_is_left_of_the_deadline(
    gate: threading.Event, headers: dict[str, str]
) -> None:
    async with asking_fakes("fast", settings=Settings(request_timeout=2)) as client:
        answer = await client.post("/v1/images", json=BODY, headers=headers)
        assert not gate.is_set()
        assert code_of(answer) == "deadline_exceeded"
        assert await metric(client, 'rejections_total{reason="deadline"}') == 1
        assert await metric(client, "encode_waiting_bytes") == 0


@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_it_ends_in_words_where_the_service_stops(
    gate: threading.Event, headers: dict[str, str]
) -> None:
    metrics = Metrics()
    async with (
        started(fake_engine("fast", metrics=metrics)) as engine,
        application(engine, Settings(), metrics) as app,
        asking_app(app) as client,
    ):
        await engine.wait_ready()
        asked = asyncio.create_task(client.post("/v1/images", json=BODY, headers=headers))
        while not await metric(client, "encode_waiting_bytes"):  # noqa: ASYNC110 - a metric
            await asyncio.sleep(0.01)
        await app.state.services.stop()
        answer = await asked
        assert not gate.is_set()
        if headers:
            assert code_of(answer) == "draining"
        else:
            assert (answer.status_code, error(answer)["code"]) == (503, "draining")


async def test_what_is_to_be_decoded_has_a_bounded_queue_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "MOST_WAITING", 2)
    uploads = budget.UploadBudget(memory_bytes=1024, threads=1)
    gate = threading.Event()
    try:
        waiting = [asyncio.create_task(uploads.begin(gate.wait, 30)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(budget.UploadsFull, match="2 uploads wait to be decoded"):
            await uploads.begin(gate.wait, 30)
        gate.set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert await uploads.begin(gate.wait, 30)
    finally:
        gate.set()
        uploads.close()


def code_of(answer: httpx.Response) -> str:
    if answer.headers["content-type"].startswith("text/event-stream"):
        name, data = list(events(answer.text))[-1]
        assert name == "error"
        code: str = data["error"]["code"]
        return code
    assert answer.status_code == 504
    return str(error(answer)["code"])
