"""The images of one call on their way: their events, and why there are no more of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from model.protocol import Result
from model.request import ImageRequest, Picture


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one image's time went, in seconds."""

    queue: float  # from acceptance to its row's start
    compute: float  # from its row's start to its last step, steps of other rows included


@dataclass(frozen=True, slots=True)
class Progress:
    """The image of request ``index`` has done ``step`` of ``steps``."""

    index: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The image of request ``index`` as it was after ``step`` of ``steps``."""

    index: int
    step: int
    steps: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class Done:
    """The image of request ``index``, final; or its description, where that was asked for."""

    index: int
    result: Result
    timings: Timings
    steps: int = 1  # that it took
    cached: bool = False  # answered from memory, no model ran


Event = Progress | Preview | Done


class EngineError(Exception):
    """Why the engine did not make an image. ``str()`` is a sentence for the client."""


class UnknownModel(EngineError):
    """No model of that id is loaded."""


class RequestRefused(EngineError):
    """The model does not take this request, e.g. its prompt is too long."""


class NotReady(EngineError):
    """The models are still loading, or could not be loaded."""


class Draining(EngineError):
    """The service is shutting down and takes no new work."""


class QueueFull(EngineError):
    """As many rows wait as the service accepts; ``retry_after`` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(EngineError):
    """The request was not finished by its deadline."""


class ImageFailed(EngineError):
    """The image's own computation failed, without harm to others."""


class WorkerCrashed(EngineError):
    """The worker died on this image again and again, while it ran alone."""


class Job:
    """An asynchronous iterator of `Event`, and a context whose end gives up what is unfinished.

    Iteration ends after one `Done` for each request, in the order in which they were finished, and
    raises an `EngineError` (`DeadlineExceeded`, `WorkerCrashed`, `Draining` …) where an image
    cannot be made; the whole job then fails. A reader slower than the worker sees only the latest
    `Progress` and `Preview` of each image, and every `Done`: a job's memory is bounded.

    Leave the context (or call `cancel`) in every case; the images of an abandoned job stay in the
    batch until its deadline otherwise.

    Attributes:
        requests: what was submitted; an event's ``index`` is a position among them.
        accepted: when, by `time.monotonic`.
        previews: whether `Preview` events are wanted.
        previewed: whether there was one.
        progress: whether `Progress` events are wanted. A reader that has no use for them says so,
            and is not woken after each step.
        context: of whoever submitted it. What is measured of the job is reported in it.
    """

    def __init__(
        self,
        requests: Sequence[ImageRequest],
        *,
        accepted: float,
        previews: bool,
        on_end: Callable[[Job], None],
    ) -> None:
        self.requests = tuple(requests)
        self.accepted = accepted
        self.previews = previews
        self.previewed = False
        self.progress = True
        self.context = copy_context()
        self._on_end = on_end
        self._unfinished = len(self.requests)
        self._undelivered = len(self.requests)
        self._done: deque[Done] = deque()
        self._progress: dict[int, Progress] = {}
        self._previews: dict[int, Preview] = {}
        self._error: EngineError | None = None
        self._ended = False
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()
        self._done.clear()  # nobody reads them any longer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._progress:
                return self._progress.pop(next(iter(self._progress)))
            if self._previews:
                return self._previews.pop(next(iter(self._previews)))
            if self._done:
                self._undelivered -= 1
                return self._done.popleft()
            if self._error is not None:
                raise self._error
            if self._undelivered == 0 or self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen: all images are made, or it failed or was left."""
        return self._ended

    @property
    def unread(self) -> int:
        """Bytes of images that are made and were not read yet."""
        pictures = [done.result for done in self._done if isinstance(done.result, Picture)]
        return sum(len(picture.pixels) for picture in pictures)

    def cancel(self) -> None:
        """Gives up what is unfinished; its rows leave the batch within one step. Idempotent."""
        self._end()

    def put(self, event: Event) -> None:
        """Adds an event. For the engine; does nothing once the job has ended."""
        if self._ended:
            return
        match event:
            case Progress() if not self.progress:
                return
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
        self._changed.set()

    def fail(self, error: EngineError) -> None:
        """Ends it with an error, raised once what is done has been read. For the engine."""
        if not self._ended:
            self._error = error
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._changed.set()
            self._on_end(self)
