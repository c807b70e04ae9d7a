"""Limits on what comes in: the model's work for each client, and the bodies of requests."""

from __future__ import annotations

import asyncio
import logging
import time
from math import ceil

from limits import parse
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import ApiError
from app.api.guard import Client
from app.metrics import Metrics
from app.settings import Settings

STORE_TIMEOUT = 0.25  # seconds

logger = logging.getLogger(__name__)


class Meter:
    """Evaluations for each client in a sliding window, by the `limits` library.

    Where the store does not answer, requests are let through and counted in a metric: a limit
    must not take the service down with it.

    Raises:
        ValueError: there is no such kind of store, or its library is not installed.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._limit = parse(settings.rate_limit) if settings.rate_limit else None
        remote = {} if settings.rate_limit_store.startswith("memory:") else _REMOTE
        try:
            store = storage_from_string(
                f"async+{settings.rate_limit_store}", wrap_exceptions=True, **remote
            )
        except ConfigurationError as error:
            raise ValueError(f"TESSERA_RATE_LIMIT_STORE: {error}") from error
        assert isinstance(store, Storage)
        self._limiter = SlidingWindowCounterRateLimiter(store)

    async def charge(self, client: Client, evaluations: int) -> None:
        """Takes it off what the client may use. Raises `ApiError` (429) if that is not enough."""
        if self._limit is None:
            return
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                if await self._limiter.hit(self._limit, client.id, cost=evaluations):
                    return
                reset = (await self._limiter.get_window_stats(self._limit, client.id)).reset_time
        except (StorageError, TimeoutError):
            self._metrics.limit_unchecked()
            logger.warning("the rate limits' store does not answer; the request is let through")
            return
        self._metrics.refused("rate_limited")
        message = f"{evaluations} evaluations were asked for, the limit is {self._limit}"
        if evaluations > self._limit.amount:
            headers = {"x-should-retry": "false"}
        else:
            headers = {"Retry-After": str(max(1, ceil(reset - time.time())))}
        raise ApiError(429, message, code="rate_limited", headers=headers)


_REMOTE: dict[str, float | str | bool] = {
    "implementation": "redispy",
    "socket_timeout": STORE_TIMEOUT,
    "socket_connect_timeout": STORE_TIMEOUT,
}


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


_CLOSE = {"Connection": "close"}
