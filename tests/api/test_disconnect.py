"""If these fail, clients that have gone keep their rows in the batch, and their uploads in memory.

Through a socket: only there can a client leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from PIL import Image

from app.engine import Engine
from app.metrics import Load, Metrics
from app.settings import Settings
from tests.api.application import application, listening, metric, png
from tests.engine.fakes import fake_engine, started, until

LONG = {"prompt": "a", "seed": 1, "steps": 1000, "n": 3}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def slow() -> AsyncIterator[tuple[str, Metrics]]:
    """A service whose model takes a hundred seconds for such a request."""
    metrics, settings = Metrics(), Settings(_env_file=None)
    async with started(fake_engine("slow", metrics=metrics)) as engine:
        await engine.wait_ready()
        async with application(engine, settings, metrics) as app, listening(app) as url:
            yield url, metrics


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_the_rows_of_a_client_that_leaves_leave_the_batch(
    slow: tuple[str, Metrics], accept: str
) -> None:
    url, metrics = slow
    async with httpx.AsyncClient(base_url=url) as client:
        before = await metric(client, "cancellations_total")
        asked = asyncio.create_task(
            client.post("/v1/images", json=LONG, headers={"Accept": accept}, timeout=60)
        )
        await until(lambda: metrics.load.get("slow", Load()).running == 3)
        asked.cancel()
        await until(lambda: metrics.load["slow"] == Load(waiting=0, running=0), seconds=10)
        assert await metric(client, "cancellations_total") == before + 3
        await until_logged(client, "cancelled")


async def test_a_row_that_two_clients_share_stays_for_the_other(
    slow: tuple[str, Metrics],
) -> None:
    url, metrics = slow
    body: dict[str, Any] = LONG | {"n": 1, "steps": 10}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        before = await metric(client, "cancellations_total")
        leaving, staying = (asyncio.create_task(client.post("/v1/images", json=body)) for _ in "ab")
        await until(lambda: metrics.load.get("slow", Load()).running == 1)
        await asyncio.sleep(0.1)  # for the second one to have come, too
        leaving.cancel()
        assert (await staying).status_code == 200
        assert await metric(client, "cancellations_total") == before


async def test_the_upload_of_a_client_that_leaves_is_not_held(
    engine: Engine, settings: Settings, metrics: Metrics
) -> None:
    upload = png(Image.effect_noise((300, 300), 50))
    async with (
        application(engine, settings, metrics) as app,
        listening(app) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        uploads = app.state.services.uploads
        before = await metric(client, "cancellations_total")
        asked = asyncio.create_task(
            client.post(
                "/v1/images/transform",
                data={"operation": "vary", "steps": "100", "n": "10", "prompt": "a"},
                files={"image": ("image", upload)},
            )
        )
        await until(lambda: uploads.held > len(upload))
        asked.cancel()
        await until(lambda: uploads.held == 0, seconds=10)
        async with asyncio.timeout(30):  # the worker confirms after its step
            while await metric(client, "cancellations_total") == before:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)


async def until_logged(client: httpx.AsyncClient, outcome: str) -> None:
    """Until a request to /v1/images has ended so."""
    name = f'request_seconds_count{{outcome="{outcome}",route="/v1/images"}}'
    async with asyncio.timeout(10):
        while not await metric(client, name):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
