"""Where uploads are held and worked on: so many bytes at once, in so many threads, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


MOST_WAITING = 64
"""Uploads that wait to be decoded: small files of many pixels take no memory, but seconds."""


class UploadsFull(Exception):
    """There is no memory for another upload now. ``str()`` is a sentence for the client."""


class Hold:
    """What one request holds."""

    def __init__(self, budget: UploadBudget) -> None:
        self._budget = budget
        self.bytes = 0

    def take(self, count: int) -> None:
        """Holds so many bytes more. Raises `UploadsFull` where there is no room for them."""
        self._budget.take(count)
        self.bytes += count


class UploadBudget:
    """Belongs to one event loop. Decoding and edits have threads of their own: an upload of many
    pixels takes seconds, for which no other image should wait."""

    def __init__(self, *, memory_bytes: int, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "upload")
        self._limit = memory_bytes
        self._waiting = 0
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes in use."""
        return self._held

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

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
        if self._held + count > self._limit:
            raise UploadsFull(f"uploads fill the {self._limit} bytes that there are for them")
        self._held += count

    async def begin(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` for what is not accepted yet. Raises `UploadsFull` where enough of it waits."""
        if self._waiting >= MOST_WAITING:
            raise UploadsFull(f"{self._waiting} uploads wait to be decoded")
        self._waiting += 1
        try:
            return await self.work(function, *args, **kwargs)
        finally:
            self._waiting -= 1

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function off the loop. Work that has not begun is dropped with its request."""
        future = self._threads.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)
