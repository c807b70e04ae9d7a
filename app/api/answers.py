"""Files become answers: headers, events. Shared by every surface that sends pictures."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.errors import of_engine
from app.api.links import LONGEST_HEADER, path_of
from app.api.negotiation import EVENTS
from app.api.orders import Order
from app.api.studio import File
from app.engine import EngineError, Job
from app.pictures import MEDIA_TYPES

PICTURE_CONTENT: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in MEDIA_TYPES.values()
}
"""What the document says of answers that are pictures."""

SILENCE = 15.0
"""Seconds after which a stream in which nothing happens says so."""


def picture_response(order: Order, file: File, headers: dict[str, str]) -> Response:
    """The picture itself. ``headers`` say how long it may be kept."""
    return Response(
        file.body,
        media_type=MEDIA_TYPES[order.encoding.format],
        headers={**order_headers(order), **timing_header([file]), **headers},
    )


def order_headers(order: Order) -> dict[str, str]:
    """What an answer says of its order, whatever its kind."""
    headers = {
        "X-Tessera-Seed": str(order.request.seed),
        "X-Tessera-Model": f"{order.spec.id}@{order.spec.digest[:12]}",
        "X-Tessera-Numerics": order.numerics,
    }
    if order.fitted is not None:
        headers["X-Tessera-Fitted"] = order.fitted
    if not order.addressable:
        return headers
    if order.encoding.width != order.spec.size:
        headers["X-Tessera-Resampled-From"] = str(order.spec.size)
    if order.files == 1:
        path = path_of(order)
        if len(path) <= LONGEST_HEADER:
            headers["Content-Location"] = path
    return headers


def timing_header(files: Sequence[File]) -> dict[str, str]:
    """The header ``Server-Timing``.

    Pictures of one answer wait and are computed side by side, but are encoded in turn.
    """
    return server_timing(
        queue=max(file.timings.queue for file in files),
        compute=max(file.timings.compute for file in files),
        encode=sum(file.encode for file in files),
    )


def server_timing(**seconds: float) -> dict[str, str]:
    """The header, of seconds by their names."""
    value = ", ".join(f"{name};dur={value * 1000:.1f}" for name, value in seconds.items())
    return {"Server-Timing": value}


def base64_of(body: bytes) -> str:
    return base64.b64encode(body).decode("ascii")


def event(name: str, data: BaseModel) -> bytes:
    """One server-sent event."""
    return format_sse_event(event=name, data_str=data.model_dump_json())


class EventStream(StreamingResponse):
    """Sends a job's events, and leaves the job when they end or the client has gone.

    A failure after the headers were sent becomes an event named ``error`` with the usual shape.
    While nothing happens a comment is sent now and then, so that proxies keep the connection.
    """

    media_type = EVENTS

    def __init__(self, job: Job, events: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(
            _kept_alive(_ending_in_words(events)),
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers},
        )
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._job:
            await super().__call__(scope, receive, send)


async def _ending_in_words(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for each in events:
            yield each
    except EngineError as error:
        yield event("error", of_engine(error).body)


async def _kept_alive(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    pending: asyncio.Task[bytes] | None = None
    try:
        while True:
            # Waited for, not timed out: a cancelled step would end the iterator.
            pending = pending or asyncio.create_task(anext(events, b""))
            done, _ = await asyncio.wait((pending,), timeout=SILENCE)
            if not done:
                yield KEEPALIVE_COMMENT
                continue
            each = pending.result()
            pending = None
            if not each:
                return
            yield each
    finally:
        if pending is not None:
            pending.cancel()
