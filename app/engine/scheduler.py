"""Which rows there are, what waits for each, and which worker has it.

Requests of jobs and news of workers go in, a list of what follows comes out: messages for workers
and updates for jobs. Only the engine sends and delivers them.

Several workers share one queue for each model. A row goes to a worker only when it has slots free,
or will after the step that runs now; until then it waits here, where it can still be cancelled
for nothing and go to any worker.

Rows are computed in the order in which they are due, so that what is quick does not wait for what
is long. Time is counted in evaluations of their model that workers have done. A row is due when,
since it was accepted, they have done `STRETCH` times the evaluations of its job up to this row:
beside whatever else, a job takes at most about so many times as long as alone, whether of one image
or of ten. A worker has the rows that are due first, as many as may be under way in turn; more
urgent ones join them at once while there are slots, and those that are due last then wait, begun.

Quarantine: a row that was with two workers when they died runs alone next, one such row at a time,
so that only the row that kills its worker can fail: the one whose worker dies twice while it is
alone. It is refused for a while afterwards.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cachetools import TTLCache

from app.engine.job import (
    EngineError,
    ImageFailed,
    Job,
    QueueFull,
    RequestRefused,
    WorkerCrashed,
)
from app.engine.messages import (
    Admit,
    Advanced,
    Cancel,
    Finished,
    Left,
    Previewed,
    Refused,
    RowNews,
    Stepped,
    Watch,
)
from app.engine.metrics import EngineMetrics
from app.engine.row import Row, RowQueue, Waiter
from model.checkpoint import Checkpoint
from model.request import ImageRequest

STRETCH = 8  # times the work of a job until its rows are due
CRASHES = 2  # beside other rows: then a row runs alone; alone: then it fails
REFUSAL = 600.0  # seconds for which a request that killed its workers is refused
REFUSALS = 10_000  # such requests that are remembered
CRASHED = "This image crashed its worker each time it was tried"

W = TypeVar("W", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Send(Generic[W]):
    """A message for a worker."""

    worker: W
    message: Admit | Watch | Cancel


@dataclass(frozen=True, slots=True)
class Update:
    """What happened to a row, for the jobs that wait for it."""

    row: Row
    news: Advanced | Previewed | Finished | EngineError


@dataclass(frozen=True, slots=True)
class Slots:
    """A worker's room for rows of a model, in evaluations."""

    in_turn: int  # of the rows under way, in the order in which they are due
    all: int  # the others are for more urgent ones


@dataclass(slots=True, eq=False)
class _Worker(Generic[W]):
    """A worker that takes rows, and those it has."""

    key: W
    held: dict[int, Row] = field(default_factory=dict)
    quarantined: Row | None = None  # the row that it runs alone


class Scheduler(Generic[W]):
    """Owns all rows. ``W`` is whatever identifies a worker.

    Of what a method returns, messages come first: delivering an update may cancel a row, which
    must have been sent by then.
    """

    def __init__(
        self, checkpoints: Mapping[str, Checkpoint], *, max_rows: int, metrics: EngineMetrics
    ) -> None:
        self._checkpoints = checkpoints
        self._max_rows = max_rows
        self._metrics = metrics
        self._ids = itertools.count()
        self._pace = Pace()
        self._rows: dict[Job, list[Row]] = {}  # what each job waits for
        self._live: dict[ImageRequest, Row] = {}  # neither ended nor cancelled
        self._waiting = {model: RowQueue() for model in checkpoints}
        self._quarantine: deque[Row] = deque()
        self._poisonous: TTLCache[ImageRequest, None] = TTLCache(REFUSALS, REFUSAL)
        self._workers: dict[W, _Worker[W]] = {}
        self._slots: dict[str, Slots] = {}
        self._clocks = dict.fromkeys(checkpoints, 0)  # evaluations that workers have done

    @property
    def waiting(self) -> int:
        """Rows that are with no worker."""
        return sum(map(len, self._waiting.values())) + len(self._quarantine)

    @property
    def workers(self) -> int:
        """Workers that take rows now."""
        return len(self._workers)

    @property
    def seconds_left(self) -> float:
        """About how long the workers take for all rows, by the measured pace."""
        held = (row for worker in self._workers.values() for row in worker.held.values())
        rows = self.waiting + sum(1 - row.step / row.steps for row in held)
        return self._pace.seconds_for(rows, self.workers)

    def under_way(self, request: ImageRequest) -> bool:
        """Whether a row is waiting or being computed that another job would share."""
        return request in self._live

    # Jobs -------------------------------------------------------------------------------------

    def submit(self, job: Job, indices: Iterable[int], *, cacheable: bool) -> list[Send[W]]:
        """Takes those of a job's requests. A request that is being computed shares its row.

        Raises `QueueFull`, `RequestRefused`, `WorkerCrashed`; nothing was taken then.
        """
        indices = tuple(indices)
        requests = [job.requests[index] for index in indices]
        self._check([request for request in dict.fromkeys(requests) if request not in self._live])
        rows: list[Row] = []
        sends: list[Send[W]] = []
        work = 0
        for index, request in zip(indices, requests, strict=True):
            evaluations = self._checkpoints[request.model].evaluations(request)
            work += evaluations
            due = self._clocks[request.model] + STRETCH * work
            if row := self._live.get(request):
                self._metrics.coalesced(request.model)
                self._hasten(row, due)
            else:
                row = self._row(request, evaluations, job.accepted, due)
                self._live[request] = row
                self._waiting[request.model].push(row)
            row.waiters.append(Waiter(job, index))
            row.cacheable |= cacheable
            if job.previews and not row.watched:
                row.watched = True
                if worker := self._holder(row):
                    sends.append(Send(worker.key, Watch(row.id)))
            rows.append(row)
        self._rows[job] = rows
        return [*sends, *self._hand_out({request.model for request in requests})]

    def leave(self, job: Job) -> list[Send[W]]:
        """A job waits no longer: rows that it was the last to wait for leave queue or batch."""
        cancelled: dict[W, list[int]] = {}
        models: set[str] = set()
        for row in self._rows.pop(job, ()):
            row.waiters = [waiter for waiter in row.waiters if waiter.job is not job]
            if row.waiters or self._live.get(row.request) is not row:
                continue
            del self._live[row.request]
            models.add(row.request.model)
            if worker := self._holder(row):
                cancelled.setdefault(worker.key, []).append(row.id)
                continue
            if row in self._quarantine:
                self._quarantine.remove(row)
            else:
                self._waiting[row.request.model].remove(row)
            self._metrics.cancelled(row.request.model, 1)
        sends = [Send(worker, Cancel(tuple(ids))) for worker, ids in cancelled.items()]
        return [*sends, *self._hand_out(models)]

    # Workers ----------------------------------------------------------------------------------

    def add(self, worker: W, slots: Mapping[str, Slots]) -> list[Send[W]]:
        """A worker is ready; ``slots`` has those of each model."""
        self._slots = dict(slots)
        self._workers[worker] = _Worker(worker)
        return self._hand_out(self._waiting)

    def lose(self, worker: W) -> list[Send[W] | Update]:
        """A worker is gone: its rows are computed again, elsewhere or by its successor.

        One that was never added has none.
        """
        lost = self._workers.pop(worker, None)
        if lost is None:
            return []
        failed: list[Update] = []
        for row in lost.held.values():
            model = row.request.model
            if not row.waiters:
                self._metrics.cancelled(model, 1)
                continue
            self._metrics.replayed(model, 1)
            row.step = 0
            if row is lost.quarantined:
                row.crashes_alone += 1
            else:
                row.crashes += 1
            if row.crashes_alone == CRASHES:
                self._poisonous[row.request] = None
                self._close(row)
                failed.append(Update(row, WorkerCrashed(f"{CRASHED}.")))
            elif row.crashes >= CRASHES:
                self._quarantine.append(row)
            else:
                self._waiting[model].push(row)
        return [*self._hand_out(self._waiting), *failed]

    def update(self, worker: W, news: RowNews) -> list[Send[W] | Update]:
        """News of rows."""
        holder = self._workers[worker]
        updates: list[Update] = []
        models: set[str] = set()
        match news:
            case Stepped():
                models |= {step.model for step in news.steps}
                updates += self._stepped(holder, news)
            case Left():
                for id_ in news.ids:
                    row = self._take_back(holder, id_)
                    models.add(row.request.model)
                    self._metrics.cancelled(row.request.model, 1)
            case Refused():
                row = self._take_back(holder, news.id)
                models.add(row.request.model)
                self._close(row)
                updates.append(Update(row, RequestRefused(news.reason)))
        return [*self._hand_out(models), *updates]

    # ------------------------------------------------------------------------------------------

    def _check(self, new: list[ImageRequest]) -> None:
        for request in new:
            if request in self._poisonous:
                self._metrics.rejected("poisonous")
                raise WorkerCrashed(
                    f"{CRASHED}; it is not tried again for {REFUSAL / 60:.0f} minutes."
                )
            cost = self._checkpoints[request.model].cost(request)
            slots = self._slots.get(request.model)
            if slots is not None and cost > slots.in_turn:
                raise RequestRefused(
                    f"A worker has {slots.in_turn} slots of {request.model}, {cost} are needed."
                )
        waiting = self.waiting
        if new and waiting + len(new) > self._max_rows:
            self._metrics.rejected("queue_full")
            raise QueueFull(
                f"{waiting} images wait already, of at most {self._max_rows}.",
                retry_after=self._pace.seconds_for(waiting, self.workers),
            )

    def _row(self, request: ImageRequest, evaluations: int, accepted: float, due: int) -> Row:
        cost = self._checkpoints[request.model].cost(request)
        steps = max(1, evaluations // cost)
        return Row(next(self._ids), request, cost, steps, accepted, due)

    def _hasten(self, row: Row, due: int) -> None:
        """A row is due earlier, as another job waits for it too; it may have a worker already."""
        waiting = self._waiting[row.request.model]
        if due < row.due and waiting.remove(row):
            row.due = due
            waiting.push(row)

    def _stepped(self, worker: _Worker[W], news: Stepped) -> list[Update]:
        self._pace.stepped(len(news.finished), news.seconds)
        for step in news.steps:
            self._clocks[step.model] += sum(done.evaluations for done in step.passes)
        updates: list[Update] = []
        for advanced in news.advanced:
            row = worker.held[advanced.id]
            row.step, row.steps = advanced.step, advanced.steps
            # Not the steps that a replay repeats, nor the last: what follows it says so.
            if row.shown < row.step < row.steps:
                row.shown = row.step
                updates.append(Update(row, advanced))
        for preview in news.previewed:
            row = worker.held[preview.id]
            row.seen = max(row.seen, preview.step)
            updates.append(Update(row, preview))
        for finished in news.finished:
            row = self._take_back(worker, finished.id)
            self._close(row)
            updates.append(Update(row, finished))
        for failed in news.failed:
            row = self._take_back(worker, failed.id)
            self._close(row)
            kind = RequestRefused if failed.refused else ImageFailed
            updates.append(Update(row, kind(failed.reason)))
        return updates

    def _take_back(self, worker: _Worker[W], id_: int) -> Row:
        row = worker.held.pop(id_)
        if row is worker.quarantined:
            worker.quarantined = None
        return row

    def _close(self, row: Row) -> None:
        if self._live.get(row.request) is row:
            del self._live[row.request]

    def _holder(self, row: Row) -> _Worker[W] | None:
        for worker in self._workers.values():
            if row.id in worker.held:
                return worker
        return None

    def _hand_out(self, changed: Iterable[str]) -> list[Send[W]]:
        """Gives rows to the workers that have room, the emptiest first."""
        new: dict[W, list[Row]] = {}
        free = [worker for worker in self._workers.values() if worker.quarantined is None]
        if self._quarantine and free and len(free) == len(self._workers):
            isolated = min(free, key=lambda worker: len(worker.held))
            free.remove(isolated)  # it takes nothing more until it is empty
            if not isolated.held:
                row = isolated.quarantined = self._quarantine.popleft()
                isolated.held[row.id] = row
                new[isolated.key] = [row]
        for model, waiting in self._waiting.items() if free else ():
            slots = self._slots[model]
            while next_row := waiting.peek():
                rooms = {worker: room(worker.held.values(), next_row, slots) for worker in free}
                worker = max(free, key=rooms.__getitem__)
                if rooms[worker] < next_row.cost:
                    break
                row = waiting.pop()
                worker.held[row.id] = row
                new.setdefault(worker.key, []).append(row)
        self._report(changed)
        return [
            Send(worker, Admit(tuple(row.message() for row in rows)))
            for worker, rows in new.items()
        ]

    def _report(self, models: Iterable[str]) -> None:
        for model in models:
            quarantined = sum(row.request.model == model for row in self._quarantine)
            running = sum(
                row.request.model == model
                for worker in self._workers.values()
                for row in worker.held.values()
            )
            waiting = len(self._waiting[model]) + quarantined
            self._metrics.rows(model, waiting=waiting, running=running)


def room(held: Iterable[Row], new: Row, slots: Slots) -> int:
    """Evaluations that a worker which holds these rows has free for a new one.

    Rows in their last step, and cancelled ones, do not count: their room is free when the new row
    arrives, and the tile never runs half empty for a round trip through the pipe. Nor do those that
    are due later, as long as there are slots for all. The worker itself starts no row before
    it fits; where it waits for rows that leave, at most a tile of them.
    """
    held = [row for row in held if row.request.model == new.request.model]
    staying = [row for row in held if not row.leaving]
    before = sum(row.cost for row in staying if row.order() < new.order())
    return min(
        slots.in_turn - before,
        slots.all - sum(row.cost for row in staying),
        slots.in_turn + slots.all - sum(row.cost for row in held),
    )


class Pace:
    """How fast workers finish rows while they work, and so how long a full queue will take."""

    MEMORY = 256  # reports of steps that count
    UNKNOWN = 5.0  # seconds to wait where nothing is known yet
    SHORTEST, LONGEST = 1.0, 60.0  # seconds that are worth telling

    def __init__(self) -> None:
        self._finished: deque[int] = deque(maxlen=self.MEMORY)
        self._seconds: deque[float] = deque(maxlen=self.MEMORY)

    def stepped(self, finished: int, seconds: float) -> None:
        """A worker's steps, and how many rows they finished."""
        self._finished.append(finished)
        self._seconds.append(seconds)

    def seconds_for(self, rows: float, workers: int) -> float:
        """About how long so many workers take for ``rows``."""
        finished = sum(self._finished)
        if not finished or not workers:
            return self.UNKNOWN
        seconds = rows * sum(self._seconds) / finished / workers
        return min(max(seconds, self.SHORTEST), self.LONGEST)
