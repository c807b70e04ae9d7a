"""Where uploads are held and worked on: so many bytes at once, in so many threads, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from app.api.errors import ApiError
from app.metrics import Metrics
from app.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class Hold:
    """What one request holds."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.bytes = 0

    def take(self, count: int) -> None:
        """Holds so many bytes more. Raises `ApiError` (503) where there is no room for them."""
        self._intake.take(count)
        self.bytes += count


class Intake:
    """Belongs to one event loop. Decoding and edits have threads of their own: an upload of many
    pixels takes seconds, for which no other picture should wait."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.threads = ThreadPoolExecutor(settings.upload_threads, "upload")
        self.most_pixels = settings.max_upload_pixels
        self._most = settings.upload_memory_bytes
        self._held = 0
        self._metrics = metrics
        metrics.watch_uploads(lambda: self._held)

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """For as long as a request lasts."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            self._held -= hold.bytes

    def take(self, count: int) -> None:
        """See `Hold.take`, which keeps account."""
        if self._held + count > self._most:
            self._metrics.refused("uploads_full")
            message = f"uploads fill the {self._most} bytes that there are for them"
            raise ApiError(503, message, code="uploads_full", headers={"Retry-After": "2"})
        self._held += count

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function off the loop. Work that has not begun is dropped with its request."""
        future = self.threads.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)
