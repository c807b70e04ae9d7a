"""Headers that every answer has, for the sake of browsers."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import ApiError

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    # Pictures are made to be embedded, also by pages that isolate themselves.
    "Cross-Origin-Resource-Policy": "cross-origin",
}
NOTHING_RUNS = "default-src 'none'; frame-ancestors 'none'"

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
        is_data = scope["path"].startswith("/v1/")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
                if is_data:
                    headers.setdefault("Content-Security-Policy", NOTHING_RUNS)
            await send(message)

        await self._app(scope, receive, sending)
