"""One request on its way: the events of its pictures, in the order in which they happen."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from app.engine.request import Done, EngineError, Event, ImageRequest, Preview, Progress


class Job:
    """An asynchronous iterator of `Event`, and a context whose end gives up what is unfinished.

    Iteration ends after one `Done` for each picture, in the order in which they were finished,
    and raises an `EngineError` (`DeadlineExceeded`, `WorkerCrashed`, `Draining` …) where a picture
    cannot be made; the whole request then fails. A reader slower than the worker sees only the
    latest `Progress` and `Preview` of each picture, and every `Done`: a job's memory is bounded.

    Leave the context (or call `cancel`) whatever happens; the pictures of an abandoned job take
    places in the batch until its deadline otherwise.
    """

    def __init__(
        self,
        request: ImageRequest,
        *,
        accepted: float,
        previews: bool,
        on_end: Callable[[Job], None],
    ) -> None:
        self.request = request
        self.accepted = accepted  # time.monotonic
        self.previews = previews  # whether they are wanted
        self.previewed = False  # whether there was one
        self._on_end = on_end
        self._unfinished = request.n
        self._undelivered = request.n
        self._done: deque[Done] = deque()
        self._progress: dict[int, Progress | Preview] = {}
        self._previews: dict[int, Progress | Preview] = {}
        self._error: EngineError | None = None
        self._ended = False
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            for news in (self._progress, self._previews):
                if news:
                    return news.pop(next(iter(news)))
            if self._done:
                self._undelivered -= 1
                return self._done.popleft()
            if self._error is not None:
                raise self._error
            if self._undelivered == 0 or self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen: all pictures are made, or it failed or was left."""
        return self._ended

    def cancel(self) -> None:
        """Gives up what is unfinished; its rows leave the batch within one step. Idempotent."""
        self._end()

    def put(self, event: Event) -> None:
        """Tells the reader. For the engine; does nothing once the job has ended."""
        if self._ended:
            return
        match event:
            case Progress():
                self._progress[event.index] = event
            case Preview():
                self.previewed = True
                self._previews[event.index] = event
            case Done():
                self._progress.pop(event.index, None)
                self._previews.pop(event.index, None)
                self._done.append(event)
                self._unfinished -= 1
                if not self._unfinished:
                    self._end()
        self._news.set()

    def fail(self, error: EngineError) -> None:
        """Ends it with an error, raised once what is done has been read. For the engine."""
        if not self._ended:
            self._error = error
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._news.set()
            self._on_end(self)
