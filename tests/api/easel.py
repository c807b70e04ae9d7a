"""An engine without workers: its pictures are painted at once, from the row's hash."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace
from pathlib import Path

from app.engine import (
    Done,
    Engine,
    EngineError,
    ImageRequest,
    Job,
    Preview,
    Progress,
    Timings,
)
from model.checkpoint import Checkpoint
from model.protocol import Description, Label, LoadedModel, Operation, Picture, RowRequest


class Easel(Engine):
    """Every method of `Engine`, in memory; counts what it was asked."""

    def __init__(self, *folders: Path) -> None:
        opened = [Checkpoint.open(folder) for folder in folders]
        self.checkpoints = {checkpoint.spec.id: checkpoint for checkpoint in opened}
        self.models = {}
        self.state = "starting"
        self.failure = None
        self.submitted: list[ImageRequest] = []
        self.refusal: EngineError | None = None  # raised by the next submissions
        self.accident: EngineError | None = None  # ends the next jobs after their first step
        self.delay = 0.0  # seconds between the first step and the picture

    async def start(self) -> None:
        self.state = "ready"
        self.models = {
            checkpoint.spec.id: LoadedModel(checkpoint.spec, "numerics-1", True, 8, "cpu", "fp32")
            for checkpoint in self.checkpoints.values()
        }

    def can(self, model: str, *operations: Operation) -> None:
        """Makes the model one that can do these."""
        checkpoint = self.checkpoints[model]
        changed = replace(checkpoint, spec=replace(checkpoint.spec, operations=operations))
        self.checkpoints = {**self.checkpoints, model: changed}

    async def wait_ready(self) -> None:
        pass

    def submit(
        self,
        request: ImageRequest,
        *,
        timeout: float,
        previews: bool = False,
        cacheable: bool = True,
    ) -> Job:
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(request)
        job = Job(
            request,
            accepted=time.monotonic(),
            previews=previews,
            on_end=lambda _: None,
        )
        asyncio.get_running_loop().create_task(self._paint(job, previews))
        return job

    async def _paint(self, job: Job, previews: bool) -> None:
        for index, row in enumerate(job.request.rows()):
            job.put(Progress(index, 1, row.steps))
            await asyncio.sleep(self.delay)
            if self.accident is not None:
                job.fail(self.accident)
            if row.operation == "describe":
                labels = row.labels or ("a label",)
                share = 1 / len(labels)
                description = Description("a caption", tuple(Label(x, share) for x in labels))
                job.put(Done(index, description, Timings(queue=0.001, compute=0.002)))
                continue
            picture = self._picture(row)
            for step in range(1, row.steps) if previews else ():
                job.put(Preview(index, step, row.steps, picture))
                await asyncio.sleep(0)
            job.put(Done(index, picture, Timings(queue=0.001, compute=0.002)))

    def _picture(self, row: RowRequest) -> Picture:
        size = self.checkpoints[next(iter(self.checkpoints))].spec.size
        return Picture(size, size, 4, hashlib.sha256(repr(row).encode()).digest()[:4] * size**2)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - the engine's signature
        self.state = "draining"
        return True

    async def stop(self) -> None:
        self.state = "stopped"
