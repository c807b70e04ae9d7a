"""One request, one line: an id, a duration, an outcome, for the metrics, the log and the client."""

from __future__ import annotations

import logging
import random
import re
import time
from http import HTTPStatus
from typing import Any

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.api.auth import CLIENT, Client
from app.api.errors import CLIENT_GONE, ApiError
from app.api.middleware import NOTHING_RUNS, SECURITY
from app.metrics import Metrics

HEADER = "X-Request-Id"
PROBES = {"/livez", "/readyz", "/metrics"}
"""Asked every few seconds by machines: logged only for those who look for it."""

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_OUTCOMES = {
    HTTPStatus.ACCEPTED: "accepted",
    HTTPStatus.NOT_MODIFIED: "not_modified",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "unauthorized",
    HTTPStatus.TOO_MANY_REQUESTS: "limited",
    CLIENT_GONE: "cancelled",
    HTTPStatus.NOT_IMPLEMENTED: "invalid",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "invalid",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    HTTPStatus.GATEWAY_TIMEOUT: "late",
}

logger = logging.getLogger("tessera.access")


def _new_id() -> str:
    return f"{random.getrandbits(64):016x}"


def outcome_of(status: int) -> str:
    """A status code as a label: few enough for metrics, telling enough for alerts."""
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    return "ok" if status < 400 else "invalid" if status < 500 else "failed"


def refusal(metrics: Metrics, error: ApiError) -> Response:
    """The answer to what never became a request: logged, counted and headed as all answers are."""
    response = error.response()
    request_id = _new_id()
    outcome = outcome_of(error.status_code)
    response.headers.update(
        {**SECURITY, "Content-Security-Policy": NOTHING_RUNS, HEADER: request_id}
    )
    metrics.answered("none", outcome, 0.0)
    line = {"request_id": request_id, "status": error.status_code, "outcome": outcome}
    logger.info("no request: %s", error, extra=line)
    return response


class RequestLog:
    """Pure ASGI middleware. Gives each request an id (the client's own, if it is a sane one)."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        # Not asgi-correlation-id, a second middleware in place of these two lines.
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _ACCEPTED_ID.fullmatch(given) else _new_id()
        state: dict[str, Any] = scope.setdefault("state", {})
        logs.request_id.set(request_id)
        status = 500  # what the client gets if nothing is sent
        complete = False

        async def sending(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            await send(message)

        async def receiving() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "http.disconnect" and not complete:
                status = CLIENT_GONE
            return message

        try:
            await self._app(scope, receiving, sending)
        finally:
            seconds = time.perf_counter() - start
            # The route's pattern, not the address: seeds are no labels.
            route = getattr(scope.get("route"), "path_format", "none")
            outcome = outcome_of(status)
            self._metrics.answered(route, outcome, seconds)
            line = {"status": status, "outcome": outcome, "seconds": round(seconds, 4)}
            client = state.get(CLIENT)
            if isinstance(client, Client) and client.key is not None:
                self._metrics.answered_to_key(client.key, outcome)
                line["key"] = client.key
            level = logging.DEBUG if route in PROBES else logging.INFO
            logger.log(level, "%s %s", scope["method"], route, extra=line)
