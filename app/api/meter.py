"""How much of the model's work each client may ask for."""

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
