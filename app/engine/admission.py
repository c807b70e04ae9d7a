"""What is accepted, what is shared, what is already known, and what is refused at once.

A row's identity is its model and its request, so requests that want the same picture share one
row: it leaves when its last subscriber has left, and finished pictures are kept for a while.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from app.engine.cache import result_cache
from app.engine.dispatcher import Dispatcher, Port
from app.engine.job import Job
from app.engine.messages import Finished, Left, Refused, Stepped
from app.engine.observer import EngineMetrics
from app.engine.pace import Pace
from app.engine.request import (
    DeadlineExceeded,
    Done,
    EngineError,
    ImageRequest,
    QueueFull,
    RequestRefused,
    Timings,
    WorkerCrashed,
)
from app.engine.ticket import Key, Subscriber, Ticket
from model.protocol import Picture, Result

REFUSAL = 600.0  # seconds for which a poisonous row is refused
REFUSALS = 10_000  # that are remembered; the oldest are forgotten first


@dataclass(slots=True)
class _Open:
    """What an unfinished job holds."""

    deadline: asyncio.TimerHandle
    tickets: list[Ticket] = field(default_factory=list)


class Admission:
    """Owns the jobs, the shared rows and the finished pictures; an `Outcome` of the dispatcher."""

    def __init__(
        self, models: tuple[str, ...], *, max_rows: int, cache_bytes: int, metrics: EngineMetrics
    ) -> None:
        self.dispatcher = Dispatcher(models, self, metrics)
        self.pace = Pace()
        self.idle = asyncio.Event()  # set while no job is open
        self.idle.set()
        self._max_rows = max_rows
        self._cache = result_cache(cache_bytes)
        self._metrics = metrics
        self._ids = itertools.count()
        self._open: dict[Job, _Open] = {}
        self._live: dict[Key, Ticket] = {}
        self._poisonous: dict[Key, float] = {}  # until when it is refused

    def submit(
        self, request: ImageRequest, *, timeout: float, previews: bool, cacheable: bool
    ) -> Job:
        """See `Engine.submit`. Raises `QueueFull` and `WorkerCrashed`."""
        now = time.monotonic()
        keys = [Key(request.model, row) for row in request.rows()]
        known = {key: result for key in keys if (result := self._cache.get(key)) is not None}
        new = [key for key in keys if key not in known and key not in self._live]
        self._refuse_poison(new, now)
        self._refuse_overflow(len(new))

        job = Job(request, accepted=now, previews=previews, on_end=self._on_end)
        loop = asyncio.get_running_loop()
        opened = _Open(loop.call_later(timeout, self._expire, job, timeout))
        self._open[job] = opened
        self.idle.clear()
        fresh: list[Ticket] = []
        for index, key in enumerate(keys):
            if result := known.get(key):
                self._metrics.cache_hit(key.model)
                job.put(Done(index, result, Timings(0.0, 0.0), cached=True))
                continue
            if ticket := self._live.get(key):
                self._metrics.coalesced(key.model)
                ticket.cacheable |= cacheable
                if previews and not ticket.watched:
                    self.dispatcher.watch(ticket)
            else:
                ticket = Ticket(next(self._ids), key, now, cacheable, previews)
                self._live[key] = ticket
                fresh.append(ticket)
            ticket.subscribers.append(Subscriber(job, index))
            opened.tickets.append(ticket)
        self.dispatcher.put(next(self._ids), fresh)
        return job

    def hear(self, port: Port, message: Stepped | Left | Refused) -> None:
        """What a worker says of its rows."""
        if isinstance(message, Stepped):
            self.pace.stepped(len(message.finished), message.ended - message.began)
        self.dispatcher.hear(port, message)

    def fail_all(self, error: EngineError) -> None:
        """Ends every open job with an error."""
        for job in tuple(self._open):
            job.fail(error)

    def finished(self, ticket: Ticket, row: Finished, ended: float) -> None:
        """See `Outcome.finished`."""
        self._close(ticket)
        if ticket.cacheable:
            self._cache.put(ticket.key, row.result)
        self._metrics.finished(
            ticket.key.model,
            queue_seconds=row.started - ticket.accepted,
            compute_seconds=ended - row.started,
            pixels=_pixels(row.result),
        )
        ticket.finish(row.result, row.started, ended)

    def refused(self, ticket: Ticket, reason: str) -> None:
        """See `Outcome.refused`."""
        self._close(ticket)
        ticket.fail(RequestRefused(reason))

    def poisonous(self, ticket: Ticket) -> None:
        """See `Outcome.poisonous`."""
        self._close(ticket)
        if len(self._poisonous) == REFUSALS:
            del self._poisonous[next(iter(self._poisonous))]
        self._poisonous[ticket.key] = time.monotonic() + REFUSAL
        ticket.fail(WorkerCrashed("This picture brought its worker down each time it was tried."))

    def _refuse_poison(self, keys: list[Key], now: float) -> None:
        for key in keys:
            if self._poisonous.get(key, 0.0) > now:
                self._metrics.rejected("poisonous")
                raise WorkerCrashed(
                    "This picture brought its worker down each time it was tried; "
                    f"it is not tried again for {REFUSAL / 60:.0f} minutes."
                )
            self._poisonous.pop(key, None)

    def _refuse_overflow(self, rows: int) -> None:
        waiting = self.dispatcher.waiting
        if rows and waiting + rows > self._max_rows:
            self._metrics.rejected("queue_full")
            raise QueueFull(
                f"{waiting} pictures wait already, of at most {self._max_rows}.",
                retry_after=self.pace.seconds_for(waiting, self.dispatcher.workers),
            )

    def _expire(self, job: Job, timeout: float) -> None:
        self._metrics.rejected("deadline")
        job.fail(DeadlineExceeded(f"The request was not finished within {timeout:g} seconds."))

    def _close(self, ticket: Ticket) -> None:
        if self._live.get(ticket.key) is ticket:
            del self._live[ticket.key]

    def _on_end(self, job: Job) -> None:
        opened = self._open.pop(job, None)
        if opened is None:
            return
        opened.deadline.cancel()
        for ticket in opened.tickets:
            ticket.leave(job)
            if not ticket.subscribers and self._live.get(ticket.key) is ticket:
                self._close(ticket)
                self.dispatcher.withdraw(ticket)
        if not self._open:
            self.idle.set()


def _pixels(result: Result) -> int:
    return result.width * result.height if isinstance(result, Picture) else 0
