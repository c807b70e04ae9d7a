"""If these fail, one client's body can fill the memory, or a dead store stops the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from app.settings import Settings
from tests.api.application import error, metric


@pytest.fixture
def settings() -> Settings:
    return Settings(max_body_bytes=2048, body_timeout=0.05)


async def chunks(count: int, seconds: float = 0) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(seconds)
        yield b" " * 1024


@pytest.mark.parametrize("address", ["/v1/images", "/v1/images/generations"])
async def test_a_body_that_is_too_large_is_refused(client: httpx.AsyncClient, address: str) -> None:
    announced = await client.post(address, content=b" " * 2049)
    streamed = await client.post(address, content=chunks(3))
    for answer in (announced, streamed):
        assert (answer.status_code, error(answer)["code"]) == (413, "body_too_large")
        assert error(answer)["message"] == "the body is larger than 2048 bytes"
        assert answer.headers["connection"] == "close"


async def test_a_body_that_does_not_come_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images", content=chunks(2, seconds=1))
    assert (answer.status_code, error(answer)["code"]) == (408, "body_too_slow")


class TestADeadStore:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(rate_limit="1/hour", rate_limit_store="redis://127.0.0.1:1")

    async def test_requests_are_let_through_and_counted(self, client: httpx.AsyncClient) -> None:
        before = await metric(client, "rate_limits_unchecked_total")
        answer = await client.post("/v1/images", json={"prompt": "a", "seed": 1})
        assert answer.status_code == 200
        assert await metric(client, "rate_limits_unchecked_total") == before + 1
