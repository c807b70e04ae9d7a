"""Many clients of one server, and a look inside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import psutil

from tests.metrics import metric_in
from tests.service.running import Service

Body = dict[str, Any]

PATIENCE = 600.0
"""Seconds. A worker is back within three on an idle machine, and after twenty on a busy one."""


def bodies(count: int, *, steps: int = 20) -> list[Body]:
    """Requests of unequal step counts, guidance and seeds, one picture each."""
    return [
        {
            "prompt": ("", "red apple")[k % 2],
            "seed": 1000 * k,
            "steps": steps + k % 7,
            "guidance": 1 + k % 3,
        }
        for k in range(count)
    ]


async def draw(http: httpx.AsyncClient, body: Body) -> httpx.Response:
    return await http.post("/v1/images", json=body)


async def draw_all(http: httpx.AsyncClient, requests: Sequence[Body]) -> list[bytes]:
    """The requests' pictures, asked for at once. Fails unless all are answered."""
    answers = await asyncio.gather(*(draw(http, body) for body in requests))
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return [answer.content for answer in answers]


def workers(service: Service) -> list[psutil.Process]:
    """The server's worker processes."""
    return [
        child
        for child in psutil.Process(service.process.pid).children(recursive=True)
        if "app.engine.worker" in child.cmdline()
    ]


async def metric(http: httpx.AsyncClient, name: str) -> float:
    """See `metric_in`."""
    return metric_in((await http.get("/metrics")).text, name)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 120.0) -> float:
    """Waits for something to come true; how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.01)
    return time.monotonic() - began
