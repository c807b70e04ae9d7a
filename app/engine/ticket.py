"""A row as the API process knows it: what is asked, who waits for it, how often it failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.engine.job import Job
from app.engine.messages import Assignment
from app.engine.request import Done, EngineError, Preview, Progress, Timings
from model.protocol import Picture, Result, RowRequest


@dataclass(frozen=True, slots=True)
class Key:
    """A row's identity: equal keys make equal pictures."""

    model: str
    request: RowRequest


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A request that waits for the row, as its picture ``index``."""

    job: Job
    index: int


@dataclass(slots=True, eq=False)
class Ticket:
    """One wanted row. Leaves when it is finished, failed, or has no subscriber any longer."""

    id: int
    key: Key
    accepted: float
    cacheable: bool
    watched: bool  # whether any subscriber wants previews
    subscribers: list[Subscriber] = field(default_factory=list)
    step: int = 0  # of the present attempt
    shown: int = 0  # the last step that subscribers heard of, in any attempt
    seen: int = 0  # the last step of which a preview was shown
    crashes: int = 0  # workers that died with it among their rows
    crashes_alone: int = 0  # workers that died while it was the only row, by intent

    @property
    def places(self) -> int:
        """What it takes of a tile."""
        return self.key.request.places

    @property
    def leaving(self) -> bool:
        """Whether the next step is its last, or nobody waits for it: its places are free soon."""
        return self.step >= self.key.request.steps - 1 or not self.subscribers

    def assignment(self) -> Assignment:
        """What a worker is told of it."""
        return Assignment(self.id, self.key.model, self.key.request, self.watched, self.seen)

    def leave(self, job: Job) -> None:
        """Drops a subscriber."""
        self.subscribers = [one for one in self.subscribers if one.job is not job]

    def advance(self, step: int) -> None:
        """Tells how far it is; steps that a replay repeats are not told again."""
        self.step = step
        if step > self.shown:
            self.shown = step
            steps = self.key.request.steps
            for one in self.subscribers:
                one.job.put(Progress(one.index, step, steps))

    def preview(self, step: int, picture: Picture) -> list[Job]:
        """Shows a preview to those who want one; the jobs for which it is the first."""
        self.seen = max(self.seen, step)
        steps = self.key.request.steps
        watching = [one for one in self.subscribers if one.job.previews]
        first = [one.job for one in watching if not one.job.previewed]
        for one in watching:
            one.job.put(Preview(one.index, step, steps, picture))
        return first

    def finish(self, result: Result, started: float, ended: float) -> None:
        """Hands the result to all who wait for it."""
        for one in tuple(self.subscribers):
            began = max(started, one.job.accepted)  # one that joined late waited for nothing
            timings = Timings(queue=began - one.job.accepted, compute=ended - began)
            one.job.put(Done(one.index, result, timings))

    def fail(self, error: EngineError) -> None:
        """Fails every request that waits for it."""
        for one in tuple(self.subscribers):
            one.job.fail(error)
