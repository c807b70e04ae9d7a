"""A span for each request, see `app.tracing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.tracing import RequestSpan, request_span

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

PROBES = frozenset({"/livez", "/readyz", "/metrics", "/v1/status"})
"""Asked every few seconds by machines: not traced."""


class Tracing:
    """Pure ASGI middleware, around all others, so that what they count has the trace."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        headers = dict(Headers(scope=scope))
        request = RequestSpan(self._tracer, headers, scope["method"])
        status, request_id = 500, ""

        async def sending(message: Message) -> None:
            nonlocal status, request_id
            if message["type"] == "http.response.start":
                status = message["status"]
                request_id = Headers(raw=message["headers"]).get("x-request-id", "")
            await send(message)

        token = request_span.set(request)
        try:
            await self._app(scope, receive, sending)
        finally:
            request_span.reset(token)
            route = getattr(scope.get("route"), "path_format", "none")
            request.answered(route, scope["method"], status, request_id)
