"""The engine as the service sees it: requests are submitted here, and come back as events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cachetools import LRUCache

from app.engine.job import (
    DeadlineExceeded,
    Done,
    Draining,
    EngineError,
    Job,
    NotReady,
    Preview,
    Progress,
    Timings,
    UnknownModel,
)
from app.engine.messages import (
    Advanced,
    Finished,
    Left,
    Opened,
    Previewed,
    Ready,
    Refused,
    Stepped,
    WorkerSettings,
)
from app.engine.metrics import EngineMetrics
from app.engine.row import Row
from app.engine.scheduler import Scheduler, Send, Slots, Update
from app.engine.settings import EngineSettings
from app.engine.supervisor import GaveUp, Lost, Supervisor, WorkerEvent
from model.checkpoint import Checkpoint
from model.copies import PrivateCopies
from model.protocol import LoadedModel, Result, in_turn
from model.registry import open_checkpoint as open_folder
from model.request import ImageRequest, Picture

log = logging.getLogger(__name__)

SLOWEST_DISK = 50e6
"""Bytes a second at which weights are read, at least."""

State = Literal["starting", "ready", "draining", "failed", "stopped"]


class Engine:
    """Takes requests, runs them on its workers, survives the workers.

    Belongs to one event loop: create it anywhere, use it only there.

    Attributes:
        checkpoints: what will be loaded, by id, in the order of the settings. The first is the
            default model.
        parameters: the names of those of any model.
        models: what is loaded, by id, in the same order; empty until ready.
        state: "ready" follows loading, warm-up and the self-test on every worker.
        failure: why the state is "failed", in a sentence.
    """

    def __init__(
        self,
        settings: EngineSettings,
        metrics: EngineMetrics,
        *,
        open_checkpoint: Callable[[Path], Checkpoint] = open_folder,
        open_device: str = "app.engine.device:TorchDevice",
    ) -> None:
        """Looks at the checkpoints; starts nothing.

        Args:
            open_checkpoint: reads a folder.
            open_device: "module:function" that gives a worker its `Device`, in its own process.

        Raises:
            CheckpointError: a folder is not a checkpoint.
            ValueError: two of them have one name.
        """
        opened = [open_checkpoint(model).with_loras(settings.loras) for model in settings.models]
        self.checkpoints: Mapping[str, Checkpoint] = {
            checkpoint.spec.id: checkpoint for checkpoint in opened
        }
        if len(self.checkpoints) < len(opened):
            names = ", ".join(f"{one.spec.id} ({one.folder})" for one in opened)
            raise ValueError(
                f"TESSERA_MODELS: two models have one name: {names}; name=folder gives another"
            )
        self._copies = PrivateCopies()
        self.checkpoints = {id_: self._copies.of(kept) for id_, kept in self.checkpoints.items()}
        specs = [checkpoint.spec for checkpoint in self.checkpoints.values()]
        self.parameters = tuple(
            dict.fromkeys(one.name for spec in specs for one in spec.parameters)
        )
        self.models: Mapping[str, LoadedModel] = {}
        self.state: State = "starting"
        self.failure: str | None = None
        self._settings = settings
        self._metrics = metrics
        self._open_device = open_device
        self._open_checkpoint = open_checkpoint
        self._supervisors: list[Supervisor] = []
        self._loaded: dict[Supervisor, tuple[LoadedModel, ...]] = {}
        self._started = asyncio.Event()  # set once the state is not "starting" any longer
        self._deadlines: dict[Job, asyncio.TimerHandle] = {}  # of each unfinished job
        self._idle = asyncio.Event()  # set while there is no unfinished job
        self._idle.set()
        self._cache: LRUCache[ImageRequest, _Kept] = LRUCache(settings.cache_bytes, _Kept.weight)
        self._scheduler: Scheduler[Supervisor] = Scheduler(
            self.checkpoints, max_rows=settings.max_rows_waiting, metrics=metrics
        )

    @property
    def workers(self) -> int:
        """Workers that take rows now; fewer than there are devices while some are replaced."""
        return self._scheduler.workers

    def successor(self) -> Engine:
        """Another of the same settings, for what lies in the models' folders now.

        Raises what the constructor does.
        """
        return Engine(
            self._settings,
            self._metrics,
            open_checkpoint=self._open_checkpoint,
            open_device=self._open_device,
        )

    async def start(self) -> None:
        """Starts the workers and returns at once: loading and self-tests go on by themselves."""
        for device in self._settings.devices:
            self._add_worker(device)

    async def wait_ready(self) -> None:
        """Returns when the engine is ready. Raises `NotReady` once it cannot become so."""
        await self._started.wait()
        if self.state == "failed":
            raise NotReady(self.failure or "The engine failed.")

    def submit(
        self,
        requests: Sequence[ImageRequest],
        *,
        timeout: float,
        previews: bool = False,
        cacheable: bool = True,
    ) -> Job:
        """Accepts all requests as one job, or refuses them at once.

        Args:
            requests: at least one; an event's ``index`` is a position among them.
            timeout: seconds until the job fails with `DeadlineExceeded`.
            previews: whether `Preview` events are wanted.
            cacheable: whether its images may be kept in memory for equal requests; without, they
                are still looked up. False where the seed is random: nobody asks again.

        Raises:
            UnknownModel, NotReady, Draining, QueueFull, RequestRefused, WorkerCrashed: nothing was
                accepted.
        """
        if not requests:
            raise ValueError("a job has at least one request")
        self._check(requests)
        cached = {
            index: kept.result
            for index, request in enumerate(requests)
            if (kept := self._cache.get(request)) is not None
        }
        job = Job(requests, accepted=time.monotonic(), previews=previews, on_end=self._on_job_end)
        missing = [index for index in range(len(requests)) if index not in cached]
        sends = self._scheduler.submit(job, missing, cacheable=cacheable)
        loop = asyncio.get_running_loop()
        self._deadlines[job] = loop.call_later(timeout, self._expire, job, timeout)
        self._idle.clear()
        self._follow(sends)
        for index, result in cached.items():
            self._metrics.cache_hit(requests[index].model)
            job.put(Done(index, result, Timings(0.0, 0.0), cached=True))
        return job

    def missing(self, requests: Iterable[ImageRequest]) -> int:
        """How many of them would have to be computed: the others are in memory or under way."""
        return sum(
            request not in self._cache and not self._scheduler.under_way(request)
            for request in requests
        )

    def in_memory(self, requests: Iterable[ImageRequest]) -> bool:
        """Whether all of them are finished and kept."""
        return all(request in self._cache for request in requests)

    def can_keep(self, requests: Iterable[ImageRequest]) -> bool:
        """Whether the pictures of all of them have room in memory together."""
        weight = 0
        for request in requests:
            channels = self.checkpoints[request.model].spec.channels
            weight += weight_of(request, request.width * request.height * channels)
        return weight <= self._cache.maxsize

    @property
    def seconds_left(self) -> float:
        """About how long all that was accepted will take, by the measured pace."""
        return self._scheduler.seconds_left

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - answers, does not raise
        """Refuses new work and waits for what was accepted; whether all of it was finished."""
        if self.state in ("starting", "ready"):
            self._set_state("draining")
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Fails what is unfinished and ends the workers, within seconds. Idempotent."""
        if self.state != "failed":
            self._set_state("stopped")
        self._fail_jobs(Draining("The service stopped before the image was finished."))
        await asyncio.gather(*(supervisor.stop() for supervisor in self._supervisors))
        self._copies.remove()

    # Jobs -------------------------------------------------------------------------------------

    def _check(self, requests: Sequence[ImageRequest]) -> None:
        for request in requests:
            if request.model not in self.checkpoints:
                self._metrics.rejected("unknown_model")
                known = ", ".join(self.checkpoints)
                raise UnknownModel(f"No model {request.model!r} is loaded; there is {known}.")
        if self.state in ("starting", "failed"):
            self._metrics.rejected("not_ready")
            raise NotReady(self.failure or "The models are still loading.")
        # What is in memory or under way is no new work.
        if self.state != "ready" and not (self.state == "draining" and not self.missing(requests)):
            self._metrics.rejected("draining")
            raise Draining("The service is shutting down.")

    def _expire(self, job: Job, timeout: float) -> None:
        self._metrics.rejected("deadline")
        job.fail(DeadlineExceeded(f"The request was not finished within {timeout:g} seconds."))

    def _on_job_end(self, job: Job) -> None:
        self._deadlines.pop(job).cancel()
        if not self._deadlines:
            self._idle.set()
        self._follow(self._scheduler.leave(job))

    def _fail_jobs(self, error: EngineError) -> None:
        for job in tuple(self._deadlines):
            job.fail(error)

    # What the scheduler returns ---------------------------------------------------------------

    def _follow(self, outcomes: Iterable[Send[Supervisor] | Update]) -> None:
        for outcome in outcomes:
            match outcome:
                case Send():
                    outcome.worker.send(outcome.message)
                case Update():
                    self._deliver(outcome)

    def _deliver(self, update: Update) -> None:
        row, news = update.row, update.news
        match news:
            case Advanced():
                for waiter in row.waiters:
                    waiter.job.put(Progress(waiter.index, news.step, news.steps))
            case Previewed():
                self._preview(row, news)
            case Finished():
                self._finish(row, news)
            case EngineError():
                for waiter in row.waiters:
                    waiter.job.fail(news)

    def _preview(self, row: Row, news: Previewed) -> None:
        for waiter in row.waiters:
            job = waiter.job
            if not job.previews:
                continue
            if not job.previewed:
                seconds = time.monotonic() - job.accepted
                job.context.run(self._metrics.first_preview, row.request.model, seconds)
            job.put(Preview(waiter.index, news.step, row.steps, news.picture))

    def _finish(self, row: Row, news: Finished) -> None:
        result = news.result
        if row.cacheable:
            self._keep(row.request, result)
        # In the context of the first who asked; a cancelled row that finishes has nobody left.
        report = row.waiters[0].job.context.run if row.waiters else Context().run
        report(
            self._metrics.finished,
            row.request.model,
            queue_seconds=news.started - row.accepted,
            compute_seconds=news.ended - news.started,
            pixels=result.width * result.height if isinstance(result, Picture) else 0,
        )
        for waiter in row.waiters:
            accepted = waiter.job.accepted
            began = max(news.started, accepted)  # a job that joined late waited for nothing
            timings = Timings(queue=began - accepted, compute=news.ended - began)
            waiter.job.put(Done(waiter.index, result, timings, row.steps))

    def _keep(self, request: ImageRequest, result: Result) -> None:
        kept = _Kept(request, result)
        if kept.weight() <= self._cache.maxsize:
            self._cache[request] = kept

    # Workers ----------------------------------------------------------------------------------

    def _on_event(self, worker: Supervisor, event: WorkerEvent) -> None:
        match event:
            case Opened():
                if self.state == "starting":  # a device found later has nothing to do
                    for device in event.devices[1:]:
                        self._add_worker(device)
            case Ready():
                self._on_ready(worker, event.models)
            case Stepped():
                self._count(worker, event)
                self._follow(self._scheduler.update(worker, event))
            case Left() | Refused():
                self._follow(self._scheduler.update(worker, event))
            case Lost():
                self._metrics.restarted(worker.device, event.reason)
                self._follow(self._scheduler.lose(worker))
            case GaveUp():  # the engine lives on as long as one worker does
                log.error("no further attempt to start a worker: %s", event.reason)
                self._supervisors.remove(worker)
                self._loaded.pop(worker, None)
                if self.state == "starting" or not self._supervisors:
                    self._fail(event.reason)

    def _on_ready(self, worker: Supervisor, models: tuple[LoadedModel, ...]) -> None:
        """Workers that would compute other bits than the others do not serve."""
        if self.state in ("failed", "stopped"):
            return
        problem = as_expected(models, self._settings.expect_numerics)
        for others in self._loaded.values():
            problem = problem or difference(others, models)
        if problem:
            self._fail(f"{problem}.")
            return
        self._loaded[worker] = models
        slots = {
            model.spec.id: Slots(in_turn(model.tile, model.slots), model.slots) for model in models
        }
        self._follow(self._scheduler.add(worker, slots))
        if self.state == "starting" and all(
            supervisor.is_ready for supervisor in self._supervisors
        ):
            self.models = merged(list(self._loaded.values()))
            for checkpoint in self.checkpoints.values():
                if decoder := checkpoint.previewed_by(self._settings):
                    log.info("previews of %s by %s", checkpoint.spec.id, decoder)
            for model in self.models.values():
                self._metrics.loaded(model.spec.id, seed_exact=model.seed_exact)
                if not model.seed_exact:
                    log.warning("%s failed its self-test: not seed-exact here", model.spec.id)
            self._set_state("ready")

    def _count(self, worker: Supervisor, stepped: Stepped) -> None:
        self._metrics.device_memory(worker.device, stepped.memory)
        for step in stepped.steps:
            self._metrics.stepped(step.model, step.seconds, step.passes)
            if step.joined:
                self._metrics.joined(step.model, step.joined)
            if step.left:
                self._metrics.left(step.model, step.left)

    def _add_worker(self, device: str) -> None:
        folders = tuple(checkpoint.address for checkpoint in self.checkpoints.values())
        weights = sum(checkpoint.bytes for checkpoint in self.checkpoints.values())
        start_timeout = self._settings.start_timeout + weights / SLOWEST_DISK
        settings = self._settings.model_copy(
            update={
                "threads": self._settings.threads_each,
                "models": folders,
                "start_timeout": start_timeout,
            }
        )
        supervisor = Supervisor(WorkerSettings(self._open_device, device, settings), self._on_event)
        self._supervisors.append(supervisor)
        supervisor.start()

    def _set_state(self, state: State) -> None:
        self.state = state
        self._started.set()

    def _fail(self, reason: str) -> None:
        log.error("the engine failed: %s", reason)
        self.failure = reason
        self._set_state("failed")
        self._fail_jobs(NotReady(reason))


OVERHEAD = 1024  # bytes of a cached result beside its contents, about: objects and the table


@dataclass(frozen=True, slots=True)
class _Kept:
    """A finished result in the cache, and its key, which may weigh as much: uploads are in it."""

    request: ImageRequest
    result: Result

    def weight(self) -> int:
        result = self.result
        if isinstance(result, Picture):
            return weight_of(self.request, len(result.pixels))
        texts = [result.caption, *(label.text for label in result.labels)]
        return weight_of(self.request, 4 * sum(map(len, texts)))


def weight_of(request: ImageRequest, result: int) -> int:
    """Bytes that a request and its result, of so many bytes, take in the cache."""
    texts = [request.prompt, request.negative_prompt, *request.labels]
    pixels = 0
    if source := request.source:
        pictures = (source.picture, *source.others)
        pixels += sum(len(one.pixels) for one in pictures) + len(source.mask or b"")
    return OVERHEAD + 4 * sum(map(len, texts)) + pixels + result


def difference(some: Iterable[LoadedModel], others: Iterable[LoadedModel]) -> str | None:
    """What keeps two workers from sharing requests, in a sentence; None where nothing does."""
    by_id = {model.spec.id: model for model in others}
    for model in some:
        other = by_id[model.spec.id]
        if model.numerics != other.numerics:
            return (
                f"{model.spec.id} would draw other pixels on {other.device} (numerics "
                f"{other.numerics}) than on {model.device} (numerics {model.numerics})"
            )
    return None


def as_expected(models: Iterable[LoadedModel], expected: str | None) -> str | None:
    """What differs from `EngineSettings.expect_numerics`, in a sentence; None for nothing."""
    if expected is None:
        return None
    accepted = {numerics.strip() for numerics in expected.split(",")}
    for model in models:
        if model.numerics not in accepted:
            return (
                f"{model.spec.id} on {model.device} has numerics {model.numerics}, "
                f"expected {' or '.join(sorted(accepted))}"
            )
    return None


def merged(workers: Sequence[Iterable[LoadedModel]]) -> dict[str, LoadedModel]:
    """Each model by its id, as the first worker reports it; seed-exact where it is on all."""
    inexact = {model.spec.id for models in workers for model in models if not model.seed_exact}
    return {
        model.spec.id: replace(model, seed_exact=model.spec.id not in inexact)
        for model in workers[0]
    }
