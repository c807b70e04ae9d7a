"""How much of the model's work each client may ask for."""

from __future__ import annotations

import asyncio
import logging
from math import ceil

from limits import parse
from limits.aio.storage import SlidingWindowCounterSupport, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string

from app.api.auth import Client
from app.api.errors import ApiError
from app.metrics import Metrics
from app.settings import Settings

STORE_TIMEOUT = 0.25  # seconds

logger = logging.getLogger(__name__)


class RateLimit:
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
        assert isinstance(store, SlidingWindowCounterSupport)
        self._store = store
        self._limiter = SlidingWindowCounterRateLimiter(store)

    async def check(self, client: Client, evaluations: int) -> None:
        """Raises `ApiError` (429) if the client may not use so many now. Charges nothing."""
        await self._spend(client, evaluations, charge=False)

    async def charge(self, client: Client, evaluations: int) -> None:
        """Takes them off what the client may use. Raises `ApiError` (429) if that is not enough."""
        await self._spend(client, evaluations, charge=True)

    async def _spend(self, client: Client, evaluations: int, *, charge: bool) -> None:
        if self._limit is None or not evaluations:
            return
        spend = self._limiter.hit if charge else self._limiter.test
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                if await spend(self._limit, client.id, cost=evaluations):
                    return
                hopeless = evaluations > self._limit.amount
                wait = 0.0 if hopeless else await self._wait(client, evaluations)
        except (StorageError, TimeoutError):
            if charge:
                self._metrics.limit_unchecked()
                logger.warning("the rate limits' store does not answer; the request is let through")
            return
        self._metrics.refused("rate_limited")
        message = f"{evaluations} evaluations were asked for, the limit is {self._limit}"
        if hopeless:
            headers = {"x-should-retry": "false"}
        else:
            headers = {"Retry-After": str(max(1, ceil(wait)))}
        raise ApiError(429, message, code="rate_limited", headers=headers)

    async def _wait(self, client: Client, evaluations: int) -> float:
        """Seconds until so many are free, if nothing else is used.

        The library's own ``reset_time`` is when the next one is free. Its window slides thus: what
        was used in the window before counts in proportion to what is left of that.
        """
        assert self._limit is not None
        seconds = self._limit.get_expiry()
        before, before_lasts, used, used_lasts = await self._store.get_sliding_window(
            self._limit.key_for(client.id), seconds
        )
        free = self._limit.amount - evaluations
        if used <= free:
            return before_lasts - seconds * (free - used) / before if before else 0.0
        # Not in this window. In the next one, what is used now is what was used before.
        return used_lasts - seconds * free / used


_REMOTE: dict[str, float | str | bool] = {
    "implementation": "redispy",
    "socket_timeout": STORE_TIMEOUT,
    "socket_connect_timeout": STORE_TIMEOUT,
}
