"""How an answer is written: on a real socket, for an application of a few lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from app.connection import Bounds, Connection, Front


@asynccontextmanager
async def answering(app: ASGIApp, writes: list[bytes]) -> AsyncIterator[int]:
    """Its port; ``writes`` gets what connections give to the system at once."""

    class Recording(Connection):
        def write(self, data: bytes | None) -> None:
            writes.extend([data] if data else [])
            super().write(data)

    front = Front(Bounds(5, 5, 5, 10), lambda _: Response(b"no", 500), lambda: False)
    made = partial(Recording, uvicorn.Config(app), ServerState(), {}, front=front)
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT /"])
async def test_an_answer_of_known_length_is_written_at_once(method: str) -> None:
    """A process that is killed has written all of it or nothing, so that a balancer may ask again.
    Errors of the parser, too."""
    writes: list[bytes] = []
    async with answering(Response(b"hello"), writes) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        got = await reader.read()
        writer.close()
    assert writes == [got]
    assert got.endswith(b"hello") == (method == "GET")
    assert got.startswith(b"HTTP/1.1 500" if " " in method else b"HTTP/1.1 200")


async def test_the_head_of_a_stream_is_not_kept_back() -> None:
    begin = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await begin.wait()
        await send({"type": "http.response.body", "body": b"hello"})

    async with answering(app, []) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            assert await reader.readuntil(b"\r\n\r\n")
            begin.set()
            assert b"hello" in await reader.read()
        writer.close()
