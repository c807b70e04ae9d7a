"""Keeps one worker process alive on one device: starts it, watches it, replaces it.

One rule finds a hung worker: it reports each step, and itself every second while it has nothing to
do, so one that is silent for ``step_timeout`` is killed. Which rows a worker has is not known here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from app.engine.messages import (
    Beat,
    FromWorker,
    Left,
    Opened,
    Ready,
    Refused,
    RowNews,
    StartFailed,
    Stepped,
    Stop,
    ToWorker,
    WorkerSettings,
)
from app.engine.metrics import Restart
from app.engine.process import WorkerProcess, describe_end

log = logging.getLogger(__name__)

START_ATTEMPTS = 5  # failed starts in a row until a worker is given up
START_PATIENCE = 60.0  # seconds of failed starts until one that was ready before is given up
STOP_GRACE = 1.5  # seconds that a worker may take for the step that runs when it is stopped
PATIENCE = 10  # a step may take so many times as long as the slowest of the self-test
TICKS = 4  # the watch looks so many times in each timeout


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker was ready and is gone, with all its rows. Another process will be ready."""

    reason: Restart


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The worker could not be started and will not be tried again."""

    reason: str


WorkerEvent = Opened | Ready | RowNews | Lost | GaveUp
"""`Opened` only where the device was "auto"; `Ready` each time that rows can be sent."""


def backoff(failures: int) -> float:
    """Seconds to wait before a worker is started again, after so many losses in a row."""
    return 0.0 if failures <= 1 else min(0.25 * 2.0 ** (failures - 2), 10.0)


class Supervisor:
    """One worker, through all the processes that it lives in.

    ``on_event`` is called on the event loop.
    """

    def __init__(
        self, settings: WorkerSettings, on_event: Callable[[Supervisor, WorkerEvent], None]
    ) -> None:
        self._settings = settings
        self._on_event = on_event
        self._process: WorkerProcess | None = None
        self._phase: Literal["down", "starting", "ready", "stopping", "over"] = "down"
        self._was_ready = False
        self._losses = 0  # processes lost since a row was last finished
        self._failed_starts = 0  # in a row
        self._failing_since = 0.0  # when the first of them failed, by the loop's clock
        self._refusal: str | None = None  # what the process gave as the reason of a failed start
        self._silent = False  # whether the watch killed it
        self._silence = 0  # ticks without a message
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    @property
    def device(self) -> str:
        """The device's name; "auto" until it is known what that stands for."""
        return self._settings.device

    @property
    def is_ready(self) -> bool:
        """Whether it takes rows now."""
        return self._phase == "ready"

    @property
    def pid(self) -> int | None:
        """The process that it lives in now, if any."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts a process; one that cannot be spawned is tried again. On the event loop."""
        self._phase = "starting"
        self._refusal, self._silent = None, False
        try:
            self._process = WorkerProcess(self._settings, self._on_message, self._on_end)
        except (OSError, RuntimeError) as error:  # no memory, process, file or thread is left
            self._lose(f"could not be spawned: {error}")
        else:
            self._watch(self._settings.engine.start_timeout)

    def send(self, message: ToWorker) -> None:
        """Queues a message for the process; lost with it. Only while ready."""
        assert self._process is not None
        self._process.send(message)

    async def stop(self) -> None:
        """Ends it, by force where it does not end within seconds. Idempotent."""
        if self._phase in ("down", "over"):
            self._phase = "over"
            self._cancel_timer()
            return
        self._phase = "stopping"
        self.send(Stop())
        self._after(STOP_GRACE, self._kill)
        await self._over.wait()

    def _on_message(self, message: FromWorker) -> None:
        self._silence = 0
        match message:
            case Opened() if self._phase == "starting" and self.device == "auto":
                self._settings = replace(self._settings, device=message.devices[0])
                self._on_event(self, message)
            case Ready() if self._phase == "starting":
                self._phase = "ready"
                self._was_ready = True
                self._failed_starts = 0
                self._watch(self._patience(message))
                self._on_event(self, message)
            case StartFailed():
                self._refusal = message.reason
            case Stepped() | Left() | Refused():
                if isinstance(message, Stepped) and message.finished:
                    self._losses = 0
                self._on_event(self, message)
            case Beat() | Opened() | Ready():
                pass

    def _on_end(self, status: int) -> None:
        self._cancel_timer()
        self._process = None
        if self._phase == "stopping":
            self._phase = "over"
            self._over.set()
            return
        how = "reported nothing and was killed" if self._silent else describe_end(status)
        self._lose(how if self._phase == "ready" else f"{how} while it started")

    def _lose(self, how: str) -> None:
        """Starts another process, now or later, or gives up.

        A worker that was ready before gets more time than one that never was: what prevents its
        start, such as a lack of descriptors or memory, may pass.
        """
        was_starting = self._phase == "starting"
        self._phase = "down"
        log.error("the worker on %s %s", self.device, how)
        self._losses += 1
        if was_starting:
            now = asyncio.get_running_loop().time()
            if not self._failed_starts:
                self._failing_since = now
            self._failed_starts += 1
            hopeless = not self._was_ready and (self._refusal or self._silent)
            patient = self._was_ready and now - self._failing_since < START_PATIENCE
            if hopeless or (self._failed_starts >= START_ATTEMPTS and not patient):
                self._phase = "over"
                reason = self._refusal or f"the worker {how}"
                self._on_event(self, GaveUp(f"{self.device}: {reason}"))
                return
        self._after(backoff(self._losses), self.start)
        if not was_starting:
            self._on_event(self, Lost("silent" if self._silent else "crashed"))

    def _patience(self, ready: Ready) -> float:
        """Seconds after which a step is taken for a hang: slow models get more."""
        slowest = max((model.slowest for model in ready.models), default=0.0)
        return max(self._settings.engine.step_timeout, PATIENCE * slowest)

    def _watch(self, timeout: float) -> None:
        """Kills the process once it was silent for so long.

        Counted in ticks rather than by the clock: a machine that slept wakes to one tick, not to a
        timeout of workers that were given no time to report.
        """
        self._silence = 0

        def tick() -> None:
            self._silence += 1
            if self._silence > TICKS:
                self._silent = True
                self._kill()
            else:
                self._after(timeout / TICKS, tick)

        self._after(timeout / TICKS, tick)

    def _kill(self) -> None:
        if self._process:
            self._process.kill()

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        """Plans the one thing that is due next; whatever was planned before is cancelled."""
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(delay, action)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
