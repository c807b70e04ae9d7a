"""The whole application around a real engine, asked without a socket or through one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from PIL import Image

from app.api.deps import Services
from app.engine import Engine
from app.main import assemble
from app.metrics import Metrics
from app.settings import Settings
from tests.engine.fakes import fake_engine, started
from tests.generation.corpus import written
from tests.metrics import metric_in


@asynccontextmanager
async def application(
    engine: Engine, settings: Settings, metrics: Metrics
) -> AsyncIterator[FastAPI]:
    """The application, its threads ended afterwards. Neither starts nor stops the engine."""
    app = assemble(settings, engine, metrics)
    services = app.state.services
    assert isinstance(services, Services)
    try:
        yield app
    finally:
        services.images.close()
        services.uploads.close()


@asynccontextmanager
async def asking(
    engine: Engine, settings: Settings, metrics: Metrics
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with application(engine, settings, metrics) as app, asking_app(app) as client:
        yield client


@asynccontextmanager
async def asking_app(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The same of an application that is there."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tessera") as client:
        yield client


@asynccontextmanager
async def asking_fakes(
    *models: str, settings: Settings | None = None, **engine: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose models are fakes (`tests.engine.fakes`): slow, or deadly.

    Args:
        engine: settings of the engine.
    """
    metrics = Metrics()
    async with started(fake_engine(*models, metrics=metrics, **engine)) as running:
        await running.wait_ready()
        async with asking(running, settings or Settings(), metrics) as client:
            yield client


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """Its address, on a free port of this machine: for clients that leave."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", ws="none", log_config=None))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
        (listener,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


def events(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream: their names and their data."""
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def error(answer: httpx.Response) -> dict[str, Any]:
    """What it says is wrong."""
    body: dict[str, Any] = answer.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return body


async def metric(client: httpx.AsyncClient, name: str) -> float:
    """See `metric_in`."""
    return metric_in((await client.get("/metrics")).text, name)


def png(image: Image.Image) -> bytes:
    """The image as a file."""
    return written(image, "PNG")
