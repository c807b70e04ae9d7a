"""Bounds for the bodies of requests, in bytes and in time."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import ApiError
from app.settings import Settings

_CLOSE = {"Connection": "close"}


class BodyLimit:
    """Pure ASGI middleware: a body that is too large or too slow is refused where it is read.

    The connection is closed then, as the rest of the body would have to be read first.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._bytes = settings.max_body_bytes
        self._seconds = settings.body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        deadline = asyncio.get_running_loop().time() + self._seconds
        received = 0
        complete = False

        async def receiving() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()
            if announced.isdecimal() and int(announced) > self._bytes:
                raise self._too_large()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                text = f"the body did not arrive within {self._seconds:g} seconds"
                raise ApiError(408, text, code="body_too_slow", headers=_CLOSE) from None
            received += len(message.get("body", b""))
            if received > self._bytes:
                raise self._too_large()
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receiving, send)

    def _too_large(self) -> ApiError:
        text = f"the body is larger than {self._bytes} bytes"
        return ApiError(413, text, code="body_too_large", headers=_CLOSE)
