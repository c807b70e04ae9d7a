"""Where orders become files: the engine draws, threads encode, files are kept for a while.

Knows nothing of routes or formats of answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from app.api.guard import Client
from app.api.intake import Intake
from app.api.meter import Meter
from app.api.orders import Order
from app.engine import Done, Engine, ImageRequest, Job, Preview, Progress, Timings
from app.lru import Lru
from app.metrics import Metrics
from app.pictures import encode, encode_walk
from app.settings import Settings
from model.protocol import Description, Picture

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class File:
    """Picture ``index`` of an order, encoded."""

    index: int
    body: bytes
    timings: Timings
    encode: float  # seconds


@dataclass(frozen=True, slots=True)
class Draft:
    """Picture ``index`` as it stood after ``step`` of ``steps``, encoded."""

    index: int
    step: int
    steps: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Described:
    """What a picture shows, and how long it took to see."""

    description: Description
    timings: Timings


class Studio:
    """Draws and encodes. Belongs to one event loop, as the engine does."""

    def __init__(
        self, engine: Engine, meter: Meter, metrics: Metrics, settings: Settings, intake: Intake
    ) -> None:
        self._engine = engine
        self._intake = intake
        self._meter = meter
        self._metrics = metrics
        self._log_prompts = settings.log_prompts
        self._timeout = settings.request_timeout
        self._threads = ThreadPoolExecutor(settings.encode_threads, "encode")
        self._files: Lru[str, File] = Lru(
            settings.file_cache_bytes, size=lambda _, file: len(file.body)
        )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def submit(self, order: Order, client: Client, *, previews: bool = False) -> Job:
        """Charges the client and hands the order to the engine. Leave the job whatever happens.

        Raises `ApiError` (429) and `EngineError`; nothing was accepted then.
        """
        await self._meter.charge(client, order.evaluations)
        if self._log_prompts:
            request = order.request
            logger.info("drawing", extra={"prompt": request.prompt, "seed": request.seed})
        return self._engine.submit(
            order.request, timeout=self._timeout, previews=previews, cacheable=order.seeded
        )

    async def describe(self, request: ImageRequest, client: Client) -> Described:
        """What a picture shows. Raises as `submit` does."""
        # The caption's beginnings, and each label or those that are searched for, about.
        await self._meter.charge(client, request.steps + len(request.labels))
        async with self._engine.submit(request, timeout=self._timeout) as job:
            async for event in job:
                if isinstance(event, Done) and isinstance(event.result, Description):
                    return Described(event.result, event.timings)
        raise AssertionError("a job ends with what it was asked for, or raises")

    async def events(
        self, order: Order, job: Job, wanted: Callable[[Preview], bool] = lambda _: True
    ) -> AsyncIterator[Progress | Draft | File]:
        """What happens to the order, pictures encoded. Raises `EngineError`.

        Previews that are not ``wanted`` are dropped before they cost an encoding. The frames of a
        walk are one file, made when all are there.
        """
        frames: list[Done] = []
        async for event in job:
            match event:
                case Progress():
                    yield event
                case Done() if order.walk:
                    frames.append(event)
                    if len(frames) == order.request.n:
                        yield await self._animate(order, frames)
                case Preview(index=index, step=step, steps=steps, picture=picture) if wanted(event):
                    yield Draft(index, step, steps, await self._encode(order, index, picture))
                case Done(index=index, result=Picture() as picture, timings=timings):
                    start = time.perf_counter()
                    body = await self._encode(order, index, picture)
                    yield File(index, body, timings, time.perf_counter() - start)

    async def files(self, order: Order, client: Client) -> list[File]:
        """All pictures of the order, in the order of their index. Raises as `submit` does."""
        async with await self.submit(order, client) as job:
            files = [event async for event in self.events(order, job) if isinstance(event, File)]
        return sorted(files, key=lambda file: file.index)

    def kept(self, order: Order) -> File | None:
        """The picture of an order for one, if it was drawn a while ago. Costs nothing."""
        kept = self._files.get(order.etag) if order.addressable else None
        if kept is None:
            return None
        self._metrics.file_cache_hit(order.request.model)
        return File(0, kept.body, Timings(0.0, 0.0), 0.0)

    async def file(self, order: Order, client: Client) -> File:
        """The picture of an order for one. Raises as `submit` does."""
        (file,) = await self.files(order, client)
        if order.seeded and order.addressable:
            self._files.put(order.etag, file)
        return file

    async def _animate(self, order: Order, frames: Sequence[Done]) -> File:
        start = time.perf_counter()
        ordered = sorted(frames, key=lambda frame: frame.index)
        pictures = [each.result for each in ordered if isinstance(each.result, Picture)]
        body = await asyncio.get_running_loop().run_in_executor(
            self._threads, encode_walk, pictures, order.encoding, order.caption(0)
        )
        took = time.perf_counter() - start
        self._metrics.encoded(order.encoding.format, took)
        timings = Timings(
            queue=max(frame.timings.queue for frame in frames),
            compute=max(frame.timings.compute for frame in frames),
        )
        return File(0, body, timings, took)

    async def _encode(self, order: Order, index: int, picture: Picture) -> bytes:
        start = time.perf_counter()
        caption = order.caption(index)
        if (changed := order.transformation) is not None:
            body = await self._intake.work(
                encode, picture, order.encoding, caption, changed.framing
            )
        else:
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(
                self._threads, encode, picture, order.encoding, caption
            )
        self._metrics.encoded(order.encoding.format, time.perf_counter() - start)
        return body
