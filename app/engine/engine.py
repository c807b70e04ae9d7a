"""The engine as the service sees it: pictures are asked for here, and come back as events."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from app.engine.admission import Admission
from app.engine.agreement import agree, as_expected, together
from app.engine.job import Job
from app.engine.messages import Left, Refused, Stepped, WorkerSettings
from app.engine.observer import EngineMetrics, Restart
from app.engine.request import Draining, ImageRequest, NotReady, UnknownModel
from app.engine.settings import EngineSettings
from app.engine.supervisor import Supervisor
from model.checkpoint import Checkpoint
from model.protocol import LoadedModel

log = logging.getLogger(__name__)

State = Literal["starting", "ready", "draining", "failed", "stopped"]


class Engine:
    """Takes requests, runs them on its workers, survives the workers.

    Belongs to one event loop: create it anywhere, use it only there.

    Attributes:
        checkpoints: what will be loaded, by id, in the order of the settings. The first is the
            default model.
        models: what is loaded, by id, in the same order; empty until ready.
        state: "ready" follows loading, warm-up and the self-test on every worker.
        failure: why the state is "failed", in a sentence.
    """

    def __init__(
        self,
        settings: EngineSettings,
        metrics: EngineMetrics,
        *,
        open_checkpoint: Callable[[Path], Checkpoint] = Checkpoint.open,
        open_device: str = "app.engine.worker:TorchDevice",
    ) -> None:
        """Looks at the checkpoints; starts nothing.

        Args:
            open_checkpoint: reads a folder.
            open_device: "module:function" that gives a worker its `Device`, in its own process.

        Raises:
            CheckpointError: a folder is not a checkpoint.
            ValueError: two of them have one name.
        """
        opened = [open_checkpoint(folder) for folder in settings.models]
        self.checkpoints: Mapping[str, Checkpoint] = {one.spec.id: one for one in opened}
        if len(self.checkpoints) < len(opened):
            names = ", ".join(str(one.folder) for one in opened)
            raise ValueError(f"checkpoints are told apart by their folders' names: {names}")
        self.models: Mapping[str, LoadedModel] = {}
        self.state: State = "starting"
        self.failure: str | None = None
        self._settings = settings
        self._metrics = metrics
        self._open_device = open_device
        self._workers: list[Supervisor] = []
        self._loaded: dict[Supervisor, tuple[LoadedModel, ...]] = {}
        self._settled = asyncio.Event()  # set once the state is not "starting" any longer
        self._admission = Admission(
            tuple(self.checkpoints),
            max_rows=settings.max_rows_waiting,
            cache_bytes=settings.cache_bytes,
            metrics=metrics,
        )

    async def start(self) -> None:
        """Starts the workers and returns at once: loading and self-tests go on by themselves."""
        for device in self._settings.devices:
            self._add_worker(device)

    async def wait_ready(self) -> None:
        """Returns when the engine is ready. Raises `NotReady` once it cannot become so."""
        await self._settled.wait()
        if self.state == "failed":
            raise NotReady(self.failure or "The engine failed.")

    def submit(
        self,
        request: ImageRequest,
        *,
        timeout: float,
        previews: bool = False,
        cacheable: bool = True,
    ) -> Job:
        """Accepts a request, or refuses it at once.

        Args:
            timeout: seconds until the job fails with `DeadlineExceeded`.
            previews: whether `Preview` events are wanted.
            cacheable: whether its pictures may be kept in memory for equal requests; without,
                they are still looked up. False where the seed is random: nobody asks again.

        Raises:
            UnknownModel, NotReady, Draining, QueueFull, WorkerCrashed: nothing was accepted.
        """
        if request.model not in self.checkpoints:
            self._metrics.rejected("unknown_model")
            raise UnknownModel(
                f"No model {request.model!r} is loaded; there is {', '.join(self.checkpoints)}."
            )
        if self.state in ("starting", "failed"):
            self._metrics.rejected("not_ready")
            raise NotReady(self.failure or "The models are still loading.")
        if self.state != "ready":
            self._metrics.rejected("draining")
            raise Draining("The service is shutting down.")
        return self._admission.submit(
            request, timeout=timeout, previews=previews, cacheable=cacheable
        )

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - answers, does not raise
        """Refuses new work and waits for what was accepted; whether all of it was finished."""
        if self.state in ("starting", "ready"):
            self._settle("draining")
        try:
            await asyncio.wait_for(self._admission.idle.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Fails what is unfinished and ends the workers, within seconds. Idempotent."""
        if self.state != "failed":
            self._settle("stopped")
        self._admission.fail_all(Draining("The service stopped before the picture was finished."))
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    # What the supervisors tell (`app.engine.supervisor.Listener`) -------------------------------

    def opened(self, worker: Supervisor, devices: tuple[str, ...]) -> None:
        """See `Listener`. "auto" becomes the devices that it stands for."""
        if worker.device == "auto":
            worker.settings = replace(worker.settings, device=devices[0])
            for device in devices[1:]:
                self._add_worker(device)

    def ready(self, worker: Supervisor, models: tuple[LoadedModel, ...]) -> None:
        """See `Listener`. Workers that would draw other bits than their fellows do not serve."""
        problem = as_expected(models, self._settings.expect_numerics)
        for fellow in self._loaded.values():
            problem = problem or agree(fellow, models)
        if problem:
            self._fail(f"{problem}.")
            return
        self._loaded[worker] = models
        self._admission.dispatcher.add(worker, {model.spec.id: model for model in models})
        if self.state == "starting" and all(one.is_ready for one in self._workers):
            self.models = together(list(self._loaded.values()))
            for model in self.models.values():
                self._metrics.loaded(model.spec.id, seed_exact=model.seed_exact)
                if not model.seed_exact:
                    log.warning("%s failed its self-test: not seed-exact here", model.spec.id)
            self._settle("ready")

    def said(self, worker: Supervisor, message: Stepped | Left | Refused) -> None:
        """See `Listener`."""
        self._admission.hear(worker, message)

    def lost(self, worker: Supervisor, reason: Restart) -> None:
        """See `Listener`."""
        self._metrics.restarted(worker.device, reason)
        self._admission.dispatcher.lose(worker)

    def failed(self, worker: Supervisor, reason: str) -> None:
        """See `Listener`. Later on, the engine lives as long as one worker does."""
        self._workers.remove(worker)
        self._loaded.pop(worker, None)
        if self.state == "starting" or not self._workers:
            self._fail(reason)

    def _add_worker(self, device: str) -> None:
        settings = self._settings
        on_cpu = max(1, settings.devices.count("cpu"))
        worker = Supervisor(
            WorkerSettings(
                opener=self._open_device,
                device=device,
                models=tuple(str(one.folder) for one in self.checkpoints.values()),
                dtype=settings.dtype,
                tile=settings.tile,
                threads=settings.threads or max(1, _cores() // on_cpu),
                cuda_graphs=settings.cuda_graphs,
                previews=settings.previews,
            ),
            self,
            step_timeout=settings.step_timeout,
            start_timeout=settings.start_timeout,
        )
        self._workers.append(worker)
        worker.start()

    def _settle(self, state: State) -> None:
        self.state = state
        self._settled.set()

    def _fail(self, reason: str) -> None:
        log.error("the engine failed: %s", reason)
        self.failure = reason
        self._settle("failed")
        self._admission.fail_all(NotReady(reason))


def _cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
