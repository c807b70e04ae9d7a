"""The engine as the service sees it: pictures are asked for here, and come back as events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from app.engine.job import Job
from app.engine.observer import EngineMetrics
from app.engine.request import ImageRequest
from app.engine.settings import EngineSettings
from model.checkpoint import Checkpoint
from model.protocol import LoadedModel

State = Literal["starting", "ready", "draining", "failed", "stopped"]


class Engine:
    """Takes requests, runs them on its workers, survives the workers.

    Belongs to one event loop: create it anywhere, use it only there.
    """

    checkpoints: Mapping[str, Checkpoint]
    """What will be loaded, by id, in the order of the settings. The first is the default model."""

    models: Mapping[str, LoadedModel]
    """What is loaded, by id, in the same order; empty until ready."""

    state: State
    failure: str | None
    """Why the state is "failed", in a sentence."""

    def __init__(self, settings: EngineSettings, metrics: EngineMetrics) -> None:
        """Looks at the checkpoints; starts nothing. Raises `CheckpointError`."""
        raise NotImplementedError

    async def start(self) -> None:
        """Starts the workers and returns at once: loading and self-tests go on by themselves."""
        raise NotImplementedError

    async def wait_ready(self) -> None:
        """Returns when the engine is ready. Raises `NotReady` once it cannot become so."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - answers, does not raise
        """Refuses new work and waits for what was accepted; whether all of it was finished."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Fails what is unfinished and ends the workers, within seconds. Idempotent."""
        raise NotImplementedError
