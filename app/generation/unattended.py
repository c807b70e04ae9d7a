"""Drawing that goes on without its client, who comes back for the images."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from app.engine import EngineError, Job
from model.request import ImageRequest

logger = logging.getLogger(__name__)


class Unattended:
    """Jobs that nobody reads: they end by themselves, and their images stay in the engine's memory.

    At most one for each image that is under way, however often it is asked for.
    """

    def __init__(self) -> None:
        self._tasks: dict[ImageRequest, asyncio.Task[EngineError | None]] = {}

    def holds(self, requests: Sequence[ImageRequest]) -> bool:
        """Whether all of them are being drawn so."""
        return all(request in self._tasks for request in requests)

    def hold(self, job: Job) -> None:
        """Keeps the job until it ends, unless all of its images are held already."""
        if self.holds(job.requests):
            job.cancel()
            return
        job.progress = False
        task = asyncio.create_task(self._hold(job))
        for request in job.requests:
            self._tasks.setdefault(request, task)

    async def wait(self, requests: Sequence[ImageRequest], seconds: float) -> bool:
        """Whether all of them are drawn by then. Raises `EngineError` where one was not."""
        tasks = {self._tasks[request] for request in requests if request in self._tasks}
        if not tasks:
            return True
        done, waiting = await asyncio.wait(tasks, timeout=seconds)
        for task in done:
            if (error := task.result()) is not None:
                raise error
        return not waiting

    async def _hold(self, job: Job) -> EngineError | None:
        try:
            async with job:
                async for _ in job:
                    pass
        except EngineError as error:
            logger.warning("an image was not drawn, and nobody waited for it: %s", error)
            return error
        finally:
            task = asyncio.current_task()
            for request in job.requests:
                if self._tasks.get(request) is task:
                    del self._tasks[request]
        return None
