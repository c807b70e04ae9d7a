"""What every request passes: bounds for its body, and headers of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import ApiError
from app.settings import Settings

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    # Pictures are made to be embedded, also by pages that isolate themselves.
    "Cross-Origin-Resource-Policy": "cross-origin",
}
NOTHING_RUNS = "default-src 'none'; frame-ancestors 'none'"

_PAGES = tuple((name.lower().encode(), value.encode()) for name, value in SECURITY.items())
_DATA = (*_PAGES, (b"content-security-policy", NOTHING_RUNS.encode()))

EXPOSED = [
    "Content-Location",
    "ETag",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "Server-Timing",
    "X-Request-Id",
    "X-Tessera-Fitted",
    "X-Tessera-Model",
    "X-Tessera-Numerics",
    "X-Tessera-Resampled-From",
    "X-Tessera-Seed",
]
"""What pages of other origins may read, where CORS lets them in."""

_CLOSE = {"Connection": "close"}


class Cors(CORSMiddleware):
    """Starlette's, with refusals in the shape of all errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        message = f"{bytes(response.body).decode()}; see TESSERA_CORS_ORIGINS"
        kept = {"vary", "access-control-allow-origin"}
        headers = {name: value for name, value in response.headers.items() if name in kept}
        return ApiError(400, message, code="cors_refused", headers=headers).response()


class SecurityHeaders:
    """Pure ASGI middleware; what a route has set itself stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        usual = _DATA if scope["path"].startswith("/v1/") else _PAGES

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                given = {name.lower() for name, _ in headers}
                more = (header for header in usual if header[0] not in given)
                message["headers"] = [*headers, *more]
            await send(message)

        await self._app(scope, receive, sending)


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
        deadline = asyncio.get_running_loop().time() + limit.seconds
        received = 0
        complete = False

        async def receiving() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()
            if not received:
                _check_announced(Headers(scope=scope), limit)
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


def _check_announced(headers: Headers, limit: _Limit) -> None:
    """Raises `ApiError` for a body that its headers say is compressed or too large."""
    announced = headers.get("content-length", "0")
    encoding = headers.get("content-encoding", "")
    if encoding.lower() not in ("", "identity"):
        text = f"Content-Encoding: {encoding[:40]} was given; send the body as it is"
        raise ApiError(415, text, code="unsupported_encoding", headers=_CLOSE)
    if announced.isdecimal() and int(announced) > limit.bytes:
        raise _too_large(limit)


def _too_large(limit: _Limit) -> ApiError:
    text = f"the body is larger than {limit.bytes} bytes"
    return ApiError(413, text, code="body_too_large", headers=_CLOSE)
