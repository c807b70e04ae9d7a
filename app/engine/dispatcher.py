"""Hands waiting rows to workers, and takes them back from those that die.

Several workers share one queue. A row goes to a worker only when its places in the tile are free,
or will be after the step that runs now; until then it waits here, where it can still be cancelled
for nothing and go to any worker.

Poison: a row that was with two workers when they died is a suspect. Suspects run alone, one at a
time, so that only the guilty one can fail: the row whose worker dies twice while it is alone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from app.engine.messages import (
    Admit,
    Cancel,
    Finished,
    Left,
    Refused,
    Stepped,
    ToWorker,
    Watch,
)
from app.engine.observer import EngineMetrics
from app.engine.ticket import Ticket
from app.engine.waiting import Waiting
from model.protocol import LoadedModel

log = logging.getLogger(__name__)

CRASHES = 2  # in company: then a row runs alone; alone: then it fails


class Port(Protocol):
    """Where a worker's messages go; a `Supervisor`."""

    @property
    def device(self) -> str: ...

    def send(self, message: ToWorker) -> None: ...


class Outcome(Protocol):
    """Who hears how rows end. Each ticket ends once, or is withdrawn."""

    def finished(self, ticket: Ticket, row: Finished, ended: float) -> None:
        """The picture is there."""

    def refused(self, ticket: Ticket, reason: str) -> None:
        """The model does not take it."""

    def poisonous(self, ticket: Ticket) -> None:
        """Its worker died again and again while it ran alone."""


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker that takes rows, and those it has."""

    port: Port
    held: dict[int, Ticket] = field(default_factory=dict)
    suspect: Ticket | None = None  # the row that it runs alone


def room(held: Iterable[Ticket], model: str, tile: int) -> int:
    """Places that a worker can be given for a model.

    Rows in their last step, and cancelled ones, do not count: their places are free when the new
    rows arrive, and the tile never runs half empty for a round trip through the pipe. The worker
    itself starts no row before it fits. At most two tiles' worth is with a worker at once.
    """
    staying = sum(one.places for one in held if one.key.model == model and not one.leaving)
    leaving = sum(one.places for one in held if one.key.model == model and one.leaving)
    return min(tile - staying, 2 * tile - staying - leaving)


class Dispatcher:
    """Owns the waiting rows and knows which worker has which row."""

    def __init__(self, models: Iterable[str], outcome: Outcome, metrics: EngineMetrics) -> None:
        self._waiting = {model: Waiting() for model in models}
        self._suspects: deque[Ticket] = deque()
        self._workers: dict[Port, _Worker] = {}
        self._tiles: dict[str, int] = {}
        self._outcome = outcome
        self._metrics = metrics

    @property
    def waiting(self) -> int:
        """Rows that are with no worker."""
        return sum(map(len, self._waiting.values())) + len(self._suspects)

    @property
    def workers(self) -> int:
        """Workers that take rows now."""
        return len(self._workers)

    def put(self, lane: int, tickets: list[Ticket]) -> None:
        """Takes the new rows of a request. Requests take turns, row by row."""
        for ticket in tickets:
            self._waiting[ticket.key.model].push(lane, [ticket])
        self._hand_out()
        self._tell({ticket.key.model for ticket in tickets})

    def withdraw(self, ticket: Ticket) -> None:
        """Nobody wants this row any longer: it leaves the queue now or its batch within a step."""
        model = ticket.key.model
        if ticket in self._suspects:
            self._suspects.remove(ticket)
            self._metrics.cancelled(model, 1)
        elif self._waiting[model].remove(ticket):
            self._metrics.cancelled(model, 1)
        elif worker := self._holder(ticket):
            worker.port.send(Cancel((ticket.id,)))
        self._hand_out()
        self._tell({model})

    def watch(self, ticket: Ticket) -> None:
        """From now on, the row's previews are wanted."""
        ticket.watched = True
        if worker := self._holder(ticket):
            worker.port.send(Watch(ticket.id))

    def add(self, port: Port, models: Mapping[str, LoadedModel]) -> None:
        """A worker is ready."""
        self._tiles = {model: loaded.tile for model, loaded in models.items()}
        self._workers[port] = _Worker(port)
        self._hand_out()
        self._tell(self._waiting)

    def lose(self, port: Port) -> None:
        """A worker is gone: its rows are computed again, elsewhere or by its successor.

        One that was never added has none.
        """
        worker = self._workers.pop(port, None)
        if worker is None:
            return
        again: dict[str, list[Ticket]] = {model: [] for model in self._waiting}
        for ticket in worker.held.values():
            if not ticket.subscribers:
                self._metrics.cancelled(ticket.key.model, 1)
                continue
            again[ticket.key.model].append(ticket)
            ticket.step = 0
            if ticket is worker.suspect:
                ticket.crashes_alone += 1
            else:
                ticket.crashes += 1
        for model, tickets in again.items():
            if tickets:
                self._metrics.replayed(model, len(tickets))
            self._waiting[model].push_again([one for one in tickets if one.crashes < CRASHES])
            for ticket in tickets:
                if ticket.crashes_alone == CRASHES:
                    self._outcome.poisonous(ticket)
                elif ticket.crashes >= CRASHES:
                    self._suspects.append(ticket)
        self._hand_out()
        self._tell(again)

    def hear(self, port: Port, message: Stepped | Left | Refused) -> None:
        """News of rows."""
        worker = self._workers[port]
        match message:
            case Stepped():
                self._stepped(worker, message)
                self._tell({message.model})
            case Left():
                for row in message.ids:
                    ticket = self._take_back(worker, row)
                    self._metrics.cancelled(ticket.key.model, 1)
                    self._tell({ticket.key.model})
            case Refused():
                ticket = self._take_back(worker, message.id)
                self._outcome.refused(ticket, message.reason)
                self._tell({ticket.key.model})
        self._hand_out()

    def _stepped(self, worker: _Worker, message: Stepped) -> None:
        metrics, model = self._metrics, message.model
        metrics.stepped(
            model,
            message.ended - message.began,
            tile=message.tile,
            evaluations=message.evaluations,
        )
        metrics.device_memory(worker.port.device, message.memory)
        if message.joined:
            metrics.joined(model, message.joined)
        if message.left:
            metrics.left(model, message.left)
        for advanced in message.advanced:
            worker.held[advanced.id].advance(advanced.step)
        for preview in message.previewed:
            ticket = worker.held[preview.id]
            first = ticket.preview(preview.step, preview.picture)
            for job in first:
                metrics.first_preview(model, message.ended - job.accepted)
        for row in message.finished:
            self._outcome.finished(self._take_back(worker, row.id), row, message.ended)

    def _take_back(self, worker: _Worker, row: int) -> Ticket:
        ticket = worker.held.pop(row)
        if ticket is worker.suspect:
            worker.suspect = None
        return ticket

    def _holder(self, ticket: Ticket) -> _Worker | None:
        for worker in self._workers.values():
            if ticket.id in worker.held:
                return worker
        return None

    def _hand_out(self) -> None:
        """Gives rows to the workers that have room, the emptiest first."""
        handed: dict[_Worker, list[Ticket]] = {}
        free = [worker for worker in self._workers.values() if worker.suspect is None]
        if self._suspects and free and len(free) == len(self._workers):
            cell = min(free, key=lambda worker: len(worker.held))
            free.remove(cell)  # it takes nothing more until it is empty
            if not cell.held:
                cell.suspect = self._suspects.popleft()
                handed[cell] = [cell.suspect]
                cell.held[cell.suspect.id] = cell.suspect
        for model, waiting in self._waiting.items() if free else ():
            tile = self._tiles[model]
            while (ticket := waiting.peek()) is not None:
                spaces = {worker: room(worker.held.values(), model, tile) for worker in free}
                worker = max(free, key=spaces.__getitem__)
                if spaces[worker] < ticket.places:
                    break
                worker.held[ticket.id] = waiting.pop()
                handed.setdefault(worker, []).append(ticket)
        for worker, tickets in handed.items():
            worker.port.send(Admit(tuple(ticket.assignment() for ticket in tickets)))

    def _tell(self, models: Iterable[str]) -> None:
        for model in models:
            suspects = sum(ticket.key.model == model for ticket in self._suspects)
            running = sum(
                ticket.key.model == model
                for worker in self._workers.values()
                for ticket in worker.held.values()
            )
            waiting = len(self._waiting[model]) + suspects
            self._metrics.rows(model, waiting=waiting, running=running)
