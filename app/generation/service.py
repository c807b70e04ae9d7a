"""From resolved requests to files: cache lookup, submit, encode."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil
from typing import TypeVar
from weakref import WeakSet

from cachetools import LRUCache

from app import tracing
from app.engine import (
    DeadlineExceeded,
    Done,
    Draining,
    Job,
    NotReady,
    Preview,
    Progress,
    QueueFull,
    Succession,
    Timings,
)
from app.generation.credentials import Credentials
from app.generation.editing.budget import UploadBudget
from app.generation.output import ENCODER, Metadata, Output, encode, encode_animation
from app.generation.resolve import Generation
from app.generation.unattended import Unattended
from app.metrics import Metrics
from app.settings import Settings
from model.protocol import Description
from model.request import ImageRequest, Picture
from model.spec import ModelSpec

T = TypeVar("T")

logger = logging.getLogger(__name__)

ENTRY_OVERHEAD = 1024
"""Bytes that a cached file takes beside its contents, about."""


@dataclass(frozen=True, slots=True)
class File:
    """Image ``index`` of a generation, encoded."""

    index: int
    body: bytes
    timings: Timings
    encode: float  # seconds


@dataclass(frozen=True, slots=True)
class EncodedPreview:
    """Image ``index`` as it stood after ``step`` of ``steps``, encoded."""

    index: int
    step: int
    steps: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Described:
    """What an image shows, and how long it took to see."""

    description: Description
    timings: Timings


class ImageService:
    """Draws and encodes. Belongs to one event loop, as the engine does."""

    def __init__(
        self,
        engines: Succession,
        metrics: Metrics,
        settings: Settings,
        uploads: UploadBudget,
        credentials: Credentials | None = None,
    ) -> None:
        self.unattended = Unattended()
        self._engines = engines
        self._metrics = metrics
        self._uploads = uploads
        self._credentials = credentials
        self._timeout = settings.request_timeout
        self._log_prompts = settings.log_prompts
        self._encode_threads = settings.encode_threads
        self._threads = ThreadPoolExecutor(settings.encode_threads, "encode")
        self._memory = settings.encode_memory_bytes
        self._jobs: WeakSet[Job] = WeakSet()  # those that requests still read
        self._limits: set[asyncio.Timeout] = set()  # of the work that is going on
        self._stopped = False
        self._encoding = 0  # bytes of images that are being encoded, or wait for it
        self._pace = 20e6  # bytes that a thread encodes in a second, as it was lately
        self._files: LRUCache[str, File] = LRUCache(
            settings.file_cache_bytes, getsizeof=lambda file: len(file.body) + ENTRY_OVERHEAD
        )

    def stop(self) -> None:
        """Ends what is being encoded or decoded with `Draining`, and what would be. Idempotent."""
        self._stopped = True
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(0.0)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def numerics(self, spec: ModelSpec) -> str:
        """Names all that may change the bits that a model draws here. Raises `NotReady`."""
        return self._engines.loaded(spec).numerics

    def etag(self, generation: Generation) -> str:
        """Names a (single) file, as in the header; a signed one weakly, since signatures of the
        same bytes differ. Raises `NotReady`."""
        numerics, signed = self.numerics(generation.spec), self._credentials
        first, count = generation.requests[0], len(generation.requests)
        return _etag(first, count, generation.output, numerics, signed.name if signed else None)

    def check_signing(self) -> None:
        """Raises `NotReady` where files are signed, and the certificate for it has ended."""
        if self._credentials is not None and self._credentials.expired:
            raise NotReady(f"the certificate that signs images ended on {self._credentials.until}")

    @property
    def can_sign(self) -> bool:
        """Whether files can be signed, or need not be."""
        return self._credentials is None or not self._credentials.expired

    @property
    def unencoded(self) -> int:
        """Bytes of images that are made, and not yet files."""
        return self._encoding + sum(job.unread for job in self._jobs)

    def submit(self, generation: Generation, *, previews: bool = False) -> Job:
        """Hands the requests to the engine. Leave the job whatever happens.

        Raises `EngineError`; nothing was accepted then. A model that draws faster than files are
        written must not fill the memory with what it has drawn: `QueueFull`, as where it is slow.
        """
        self.check_signing()
        waiting = self.unencoded
        if waiting >= self._memory:
            self._metrics.refused("encoding_full")
            message = f"Images of {waiting} bytes wait to be encoded, of at most {self._memory}."
            raise QueueFull(message, ceil(waiting / (self._pace * self._encode_threads)))
        if self._log_prompts:
            first = generation.requests[0]
            logger.info("drawing", extra={"prompt": first.prompt, "seed": first.seed})
        job = self._engines.engine_for(generation.spec).submit(
            generation.requests,
            timeout=self._timeout,
            previews=previews,
            cacheable=generation.seeded,
        )
        self._jobs.add(job)
        return job

    def submit_description(self, request: ImageRequest) -> Job:
        """The same for an image to be described."""
        return self._engines.current.submit((request,), timeout=self._timeout)

    async def described(self, job: Job) -> Described:
        """What the job's image shows. Raises `EngineError`."""
        job.progress = False
        async for event in job:
            if isinstance(event, Done) and isinstance(event.result, Description):
                return Described(event.result, event.timings)
        raise AssertionError("a job ends with what it was asked for, or raises")

    async def events(
        self, generation: Generation, job: Job, wanted: Callable[[Preview], bool] = lambda _: True
    ) -> AsyncIterator[Progress | EncodedPreview | File]:
        """What happens to the job, images encoded. Raises `EngineError`.

        Previews that are not ``wanted`` are dropped before they cost an encoding. The frames of a
        walk are one file, made when all are there; until then each that is done is progress.
        Encoding has what is left of the job's time.
        """
        frames: list[Done] = []
        async for event in job:
            match event:
                case Progress():
                    yield event
                case Done() if generation.walk:
                    frames.append(event)
                    yield Progress(event.index, event.steps, event.steps)
                    if len(frames) == len(generation.requests):
                        yield await self._in_time(job, self._animate(generation, frames))
                case Preview(index=index, step=step, steps=steps, picture=picture) if wanted(event):
                    encoding = self._encode(generation.previewed, index, picture)
                    body = await self._in_time(job, encoding)
                    yield EncodedPreview(index, step, steps, body)
                case Done(index=index, result=Picture() as picture, timings=timings):
                    start = time.perf_counter()
                    body = await self._in_time(job, self._encode(generation, index, picture))
                    took = time.perf_counter() - start
                    tracing.image_done(generation.spec.id, timings, took)
                    yield File(index, body, timings, took)

    async def files(self, generation: Generation, job: Job) -> list[File]:
        """All files, in the order of their index. Raises `EngineError`."""
        job.progress = False
        events = self.events(generation, job)
        files = [event async for event in events if isinstance(event, File)]
        if generation.keepable and self._files.getsizeof(files[0]) <= self._files.maxsize:
            self._files[self.etag(generation)] = files[0]
        return sorted(files, key=lambda file: file.index)

    def can_keep(self, generation: Generation) -> bool:
        """Whether its images have room in memory until somebody asks for them."""
        return self._engines.current.can_keep(generation.requests)

    def in_memory(self, generation: Generation) -> bool:
        """Whether nothing of it has to be drawn."""
        if generation.keepable and self.etag(generation) in self._files:
            return True
        return self._engines.current.in_memory(generation.requests)

    def kept(self, generation: Generation) -> File | None:
        """The only file of a generation, if it was made a while ago. Costs nothing."""
        if not generation.keepable:
            return None
        kept = self._files.get(self.etag(generation))
        if kept is None:
            return None
        self._metrics.file_cache_hit(generation.spec.id)
        return File(0, kept.body, Timings(0.0, 0.0), 0.0)

    async def within(self, seconds: float, work: Awaitable[T], message: str) -> T:
        """What the work gives. Raises `DeadlineExceeded` where it takes longer, and `Draining`
        where the service stops meanwhile."""
        limit = asyncio.timeout(0.0 if self._stopped else max(0.0, seconds))
        try:
            async with limit:
                self._limits.add(limit)
                return await work
        except TimeoutError:
            if self._stopped:
                message = "The service stopped before the answer was finished."
                raise Draining(message) from None
            self._metrics.rejected("deadline")
            raise DeadlineExceeded(message) from None
        finally:
            self._limits.discard(limit)

    async def _in_time(self, job: Job, work: Awaitable[T]) -> T:
        """The same deadline for what is done with an image as for making it."""
        left = job.accepted + self._timeout - time.monotonic()
        message = f"The request was not finished within {self._timeout:g} seconds."
        return await self.within(left, work, message)

    async def _on_thread(self, size: int, encode: Callable[[], bytes]) -> bytes:
        """Writes a file of ``size`` bytes of pixels, in turn."""

        def timed() -> tuple[bytes, float]:
            start = time.perf_counter()
            return encode(), time.perf_counter() - start

        self._encoding += size
        try:
            loop = asyncio.get_running_loop()
            body, took = await loop.run_in_executor(self._threads, timed)
        finally:
            self._encoding -= size
        if took > 0:
            self._pace += (size / took - self._pace) / 8
        return body

    async def _animate(self, generation: Generation, frames: list[Done]) -> File:
        start = time.perf_counter()
        ordered = sorted(frames, key=lambda frame: frame.index)
        pictures = [frame.result for frame in ordered if isinstance(frame.result, Picture)]
        metadata = generation.metadata(0, self.numerics(generation.spec))
        size = sum(len(picture.pixels) for picture in pictures)
        write = partial(encode_animation, pictures, generation.output, metadata)
        body = await self._on_thread(size, self._signing(write, generation.output, metadata))
        took = time.perf_counter() - start
        self._metrics.encoded(generation.output.format, took)
        timings = Timings(
            queue=max(frame.timings.queue for frame in frames),
            compute=max(frame.timings.compute for frame in frames),
        )
        tracing.image_done(generation.spec.id, timings, took)
        return File(0, body, timings, took)

    async def _encode(self, generation: Generation, index: int, picture: Picture) -> bytes:
        start = time.perf_counter()
        output = generation.output
        metadata = generation.metadata(index, self.numerics(generation.spec))
        framing = generation.edit.framing if generation.edit else None
        write = self._signing(partial(encode, picture, output, metadata, framing), output, metadata)
        if generation.edit is not None:
            body = await self._uploads.work(write)
        else:
            body = await self._on_thread(len(picture.pixels), write)
        self._metrics.encoded(output.format, time.perf_counter() - start)
        return body

    def _signing(
        self, write: Callable[[], bytes], output: Output, metadata: Metadata
    ) -> Callable[[], bytes]:
        """The same, signed in the same thread where files are."""
        credentials = self._credentials
        if credentials is None:
            return write
        return lambda: credentials.sign(write(), output.format, metadata.source)


@lru_cache(1024)  # an answer asks up to three times, a browser for the same images again and again
def _etag(
    first: ImageRequest, count: int, output: Output, numerics: str, signed: str | None
) -> str:
    parts: tuple[object, ...] = (first, count, output, numerics, ENCODER)
    if signed is not None:
        parts = (*parts, signed)
    name = f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'
    return name if signed is None else f"W/{name}"
