"""Keeps one worker process alive on one device: starts it, listens for silence, replaces it.

One rule tells a hung worker: it says something after each step, and every second while it has
nothing to do, so one that is silent for ``step_timeout`` is killed. What the worker's rows are is
not known here; the listener computes them again elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal, Protocol

from app.engine.channel import Channel, describe_end
from app.engine.messages import (
    Beat,
    FromWorker,
    Left,
    Opened,
    Ready,
    Refused,
    StartFailed,
    Stepped,
    Stop,
    ToWorker,
    WorkerSettings,
)
from app.engine.observer import Restart
from model.protocol import LoadedModel

log = logging.getLogger(__name__)

START_ATTEMPTS = 5  # failed starts in a row until a worker is given up
STOP_GRACE = 1.5  # seconds that a worker may take for the step that runs when it is told to stop
TICKS = 4  # the watch looks so many times in each timeout


class Listener(Protocol):
    """Who hears of a worker's life. All calls come on the event loop."""

    def opened(self, worker: Supervisor, devices: tuple[str, ...]) -> None:
        """Its device is open; ``devices`` is what the name "auto" stands for."""

    def ready(self, worker: Supervisor, models: tuple[LoadedModel, ...]) -> None:
        """It can take rows, for the first time or again."""

    def said(self, worker: Supervisor, message: Stepped | Left | Refused) -> None:
        """News of its rows."""

    def lost(self, worker: Supervisor, reason: Restart) -> None:
        """It was ready and is gone, with all its rows. Another process will be ready."""

    def failed(self, worker: Supervisor, reason: str) -> None:
        """It could not be started and will not be tried again."""


def backoff(failures: int) -> float:
    """Seconds to wait before a worker is started again, after so many losses in a row."""
    return 0.0 if failures <= 1 else min(0.25 * 2.0 ** (failures - 2), 10.0)


class Supervisor:
    """One worker, through all the processes that it lives in."""

    def __init__(
        self,
        settings: WorkerSettings,
        listener: Listener,
        *,
        step_timeout: float,
        start_timeout: float,
    ) -> None:
        self.settings = settings
        self._listener = listener
        self._step_timeout = step_timeout
        self._start_timeout = start_timeout
        self._channel: Channel | None = None
        self._phase: Literal["down", "starting", "ready", "stopping", "over"] = "down"
        self._was_ready = False
        self._losses = 0  # processes lost since a row was last finished
        self._failed_starts = 0  # in a row
        self._refusal: str | None = None  # what the process gave as the reason of a failed start
        self._silent = False  # whether the watch killed it
        self._silence = 0  # ticks without a word
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    @property
    def device(self) -> str:
        """The device's name, as the settings have it."""
        return self.settings.device

    @property
    def is_ready(self) -> bool:
        """Whether it takes rows now."""
        return self._phase == "ready"

    @property
    def pid(self) -> int | None:
        """The process that it lives in now, if any."""
        return self._channel.pid if self._channel else None

    def start(self) -> None:
        """Starts a process. Must be called on the event loop."""
        self._phase = "starting"
        self._refusal, self._silent = None, False
        self._channel = Channel(self.settings, self._on_message, self._on_end)
        self._watch(self._start_timeout)

    def send(self, message: ToWorker) -> None:
        """Queues a message for the process; lost with it. Only while ready."""
        assert self._channel is not None
        self._channel.send(message)

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
            case Opened():
                self._listener.opened(self, message.devices)
            case Ready() if self._phase == "starting":
                self._phase = "ready"
                self._was_ready = True
                self._failed_starts = 0
                self._watch(self._step_timeout)
                self._listener.ready(self, message.models)
            case StartFailed():
                self._refusal = message.reason
            case Stepped() | Left() | Refused():
                if isinstance(message, Stepped) and message.finished:
                    self._losses = 0
                self._listener.said(self, message)
            case Beat() | Ready():
                pass

    def _on_end(self, status: int) -> None:
        phase = self._phase
        self._cancel_timer()
        self._channel = None
        if phase == "stopping":
            self._phase = "over"
            self._over.set()
            return
        self._phase = "down"
        how = "said nothing and was killed" if self._silent else describe_end(status)
        log.error("the worker on %s %s", self.device, how)
        self._losses += 1
        if phase == "starting":
            self._failed_starts += 1
            hopeless = not self._was_ready and (self._refusal or self._silent)
            if hopeless or self._failed_starts == START_ATTEMPTS:
                self._phase = "over"
                reason = self._refusal or f"the worker {how} while it started"
                self._listener.failed(self, f"{self.device}: {reason}")
                return
        self._after(backoff(self._losses), self.start)
        if phase == "ready":
            self._listener.lost(self, "silent" if self._silent else "crashed")

    def _watch(self, timeout: float) -> None:
        """Kills the process once nothing was heard for so long.

        Counted in ticks rather than by the clock: a machine that slept wakes to one tick, not to a
        timeout of workers that were given no time to speak.
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
        if self._channel:
            self._channel.kill()

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        """Plans the one thing that is due next; whatever was planned before is off."""
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(delay, action)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
