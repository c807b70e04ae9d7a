"""If these fail, a client is told something else of a failure than what happened, or pays for it.

The failures are real: a full queue, a worker that dies, a deadline, models that cannot be loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from app.api import responses
from app.engine import Engine, EngineSettings, Job
from app.metrics import Metrics
from app.settings import Settings
from model.request import ImageRequest
from tests.api.application import asking, asking_fakes, error, events, metric
from tests.engine.fakes import fake_engine, started, until

JSON = {"Accept": "application/json"}
EVENTS = {"Accept": "text/event-stream"}
LONG = {"prompt": "a", "steps": 200}  # guided: 400 evaluations


@pytest.mark.parametrize("headers", [JSON, EVENTS])
async def test_a_full_queue_refuses_and_charges_nothing(headers: dict[str, str]) -> None:
    settings = Settings(rate_limit="1000/hour")
    async with asking_fakes("steady", settings=settings, max_rows_waiting=1) as client:
        for _ in range(3):
            # Two rows at once are one too many; the second try would be over the limit.
            answer = await client.post("/v1/images", json=LONG | {"n": 2}, headers=headers)
            assert (answer.status_code, error(answer)["code"]) == (503, "queue_full")
        assert error(answer)["message"] == "0 images wait already, of at most 1."
        assert answer.headers["retry-after"] == "5"  # nothing is known yet of the pace
        assert await metric(client, 'rejections_total{reason="queue_full"}') == 3
        assert await metric(client, 'rejections_total{reason="rate_limited"}') == 0
        assert (await client.post("/v1/images", json={"prompt": "a"})).status_code == 200


async def test_what_crashes_workers_is_charged_once_and_not_when_it_is_refused() -> None:
    async with asking_fakes("steady", settings=Settings(rate_limit="16/hour")) as client:
        crash = {"prompt": "crash", "seed": 1}  # guided: 8 evaluations
        for _ in range(4):
            answer = await client.post("/v1/images", json=crash)
            assert (answer.status_code, error(answer)["code"]) == (500, "worker_crashed")
        assert (await client.post("/v1/images", json={"prompt": "a"})).status_code == 200
        answer = await client.post("/v1/images", json={"prompt": "a"})
        assert (answer.status_code, error(answer)["code"]) == (429, "rate_limited")


async def test_what_is_in_memory_costs_nothing() -> None:
    settings = Settings(rate_limit="10/hour", file_cache_bytes=0)
    async with asking_fakes("fast", settings=settings) as client:
        body = {"prompt": "a", "seed": 1, "n": 2, "steps": 2}  # guided: 8 evaluations
        for headers in (JSON, JSON, EVENTS, EVENTS):
            answer = await client.post("/v1/images", json=body, headers=headers)
            assert answer.status_code == 200
        again = await client.post("/v1/images", json=body | {"n": 3}, headers=JSON)
        assert (again.status_code, error(again)["message"][:13]) == (429, "4 evaluations")


async def test_a_deadline_ends_an_answer_and_a_stream() -> None:
    settings = Settings(request_timeout=0.3)
    async with asking_fakes("slow", settings=settings) as client:
        answer = await client.post("/v1/images", json=LONG)
        assert (answer.status_code, error(answer)["code"]) == (504, "deadline_exceeded")
        message = "The request was not finished within 0.3 seconds."
        assert error(answer)["message"] == message
        assert answer.headers["x-should-retry"] == "false"
        stream = await client.post("/v1/images", json=LONG, headers=EVENTS)
        assert stream.status_code == 200
        name, data = list(events(stream.text))[-1]
        assert (name, data["error"]["code"]) == ("error", "deadline_exceeded")
        assert await metric(client, 'rejections_total{reason="deadline"}') == 2


async def test_an_image_that_crashes_its_worker_fails_alone() -> None:
    async with asking_fakes("steady") as client:
        stream, other = await asyncio.gather(
            client.post("/v1/images", json={"prompt": "crash", "seed": 1}, headers=EVENTS),
            client.post("/v1/images", json={"prompt": "a", "seed": 1}),
        )
        assert stream.status_code == 200
        assert list(events(stream.text))[-1] == (
            "error",
            {
                "error": {
                    "message": "This image crashed its worker each time it was tried.",
                    "type": "server_error",
                    "param": None,
                    "code": "worker_crashed",
                }
            },
        )
        assert other.status_code == 200
        # From now on it is refused before anything is tried.
        for headers in (JSON, EVENTS):
            body = {"prompt": "crash", "seed": 1}
            answer = await client.post("/v1/images", json=body, headers=headers)
            assert (answer.status_code, error(answer)["code"]) == (500, "worker_crashed")
            assert "it is not tried again for 10 minutes" in error(answer)["message"]
            assert answer.headers["x-should-retry"] == "false"


async def test_what_the_model_refuses_is_a_bad_request() -> None:
    async with asking_fakes("fast") as client:
        answer = await client.post("/v1/images", json={"prompt": "refuse"})
        assert (answer.status_code, error(answer)) == (
            400,
            {
                "message": "the prompt was refused",
                "type": "invalid_request_error",
                "param": None,
                "code": "request_refused",
            },
        )


async def test_a_silent_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "SILENCE", 0.02)
    async with asking_fakes("slow") as client:
        answer = await client.post("/v1/images", json={"prompt": "a"}, headers=EVENTS)
    assert ": ping\n\n" in answer.text
    assert answer.text.count("event: image") == answer.text.count("event: done") == 1


async def test_before_loading_images_are_refused_and_models_described(
    engine: Engine, settings: Settings
) -> None:
    folders = tuple(checkpoint.folder for checkpoint in engine.checkpoints.values())
    loading = Engine(EngineSettings(models=folders), metrics := Metrics())  # is not started
    async with asking(loading, settings, metrics) as client:
        for request in (
            client.post("/v1/images", json={}),
            client.post("/v1/images", json={}, headers=EVENTS),
            client.get("/v1/images/7.png"),
            client.head("/v1/images/7.png"),
            client.post("/v1/images/generations", json={"prompt": "a"}),
        ):
            answer = await request
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "2"
        answer = await client.get("/v1/images/7.png")
        assert error(answer)["code"] == "not_ready"
        assert (
            error(answer)["message"] == "the models are still loading; /readyz tells when they are"
        )
        answer = await client.get("/readyz")
        assert (answer.status_code, error(answer)["code"]) == (503, "not_ready")
        model = (await client.get("/v1/models")).json()["data"][0]
        assert model["id"] == "tiny"
        assert [model[name] for name in ("numerics", "seed_exact", "device", "dtype", "tile")] == (
            [None] * 5
        )
        assert (await client.get("/v1/status")).json() == {"state": "starting", "models": {}}
        assert "tessera_ready 0.0" in (await client.get("/metrics")).text


async def test_ready_follows_the_engine(settings: Settings) -> None:
    metrics = Metrics()
    async with (
        started(fake_engine("broken", metrics=metrics)) as engine,
        asking(engine, settings, metrics) as client,
    ):
        assert (await client.get("/readyz")).status_code == 503
        await until(lambda: engine.state == "failed")
        answer = await client.get("/readyz")
        assert (answer.status_code, error(answer)["code"]) == (503, "failed")
        assert "the weights are not what they should be" in error(answer)["message"]
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/v1/status")).json()["state"] == "failed"
        answer = await client.post("/v1/images", json={"prompt": "a"})
        assert (answer.status_code, error(answer)["code"]) == (503, "not_ready")


async def test_while_it_drains_new_work_is_refused_and_old_work_answered(
    settings: Settings,
) -> None:
    metrics = Metrics()
    async with started(fake_engine("steady", metrics=metrics)) as engine:
        await engine.wait_ready()
        async with asking(engine, settings, metrics) as client:
            old = asyncio.create_task(client.post("/v1/images", json={"prompt": "a", "steps": 50}))
            await until(lambda: metrics.load.get("steady") and metrics.load["steady"].running)
            draining = asyncio.create_task(engine.drain(30))
            await asyncio.sleep(0)
            answer = await client.post("/v1/images", json={"prompt": "b"})
            assert (answer.status_code, error(answer)["code"]) == (503, "draining")
            assert answer.headers["retry-after"] == "1"
            assert (await client.get("/v1/status")).json()["state"] == "draining"
            assert (await old).status_code == 200
            assert await draining


async def test_a_fault_of_ours_is_a_500_in_the_usual_shape(
    client: httpx.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(requests: Sequence[ImageRequest], **options: Any) -> Job:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(engine, "submit", submit)
    answer = await client.post("/v1/images", json={})
    assert answer.status_code == 500
    assert (error(answer)["type"], error(answer)["code"]) == ("server_error", "internal_error")
    assert "secret" not in answer.text
