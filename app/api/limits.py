"""Bounds for the bodies of requests, in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import ApiError
from app.settings import Settings

_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class _Limit:
    bytes: int
    seconds: float


class BodyLimit:
    """Pure ASGI middleware: a body that is too large, too slow or compressed is refused unread.

    The connection is closed then, as the rest of the body would have to be read first. Addresses
    in ``uploads`` have limits of their own.
    """

    def __init__(self, app: ASGIApp, settings: Settings, uploads: Collection[str]) -> None:
        self._app = app
        self._limit = _Limit(settings.max_body_bytes, settings.body_timeout)
        self._of_uploads = _Limit(settings.max_upload_bytes, settings.upload_timeout)
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._of_uploads if scope["path"] in self._uploads else self._limit
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        encoding = headers.get("content-encoding", "")
        deadline = asyncio.get_running_loop().time() + limit.seconds
        received = 0
        complete = False

        async def receiving() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()
            if encoding.lower() not in ("", "identity"):
                text = f"Content-Encoding: {encoding[:40]} was given; send the body as it is"
                raise ApiError(415, text, code="unsupported_encoding", headers=_CLOSE)
            if announced.isdecimal() and int(announced) > limit.bytes:
                raise _too_large(limit)
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                text = f"the body did not arrive within {limit.seconds:g} seconds"
                raise ApiError(408, text, code="body_too_slow", headers=_CLOSE) from None
            received += len(message.get("body", b""))
            if received > limit.bytes:
                raise _too_large(limit)
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receiving, send)


def _too_large(limit: _Limit) -> ApiError:
    text = f"the body is larger than {limit.bytes} bytes"
    return ApiError(413, text, code="body_too_large", headers=_CLOSE)
