"""One model's rows inside a worker: started when they fit, stepped together, then released."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.engine.batcher import admissible, choose
from app.engine.messages import (
    Advanced,
    Failed,
    Finished,
    NewRow,
    Previewed,
    Refused,
    Step,
    Stepped,
)
from model.protocol import ImageModel, ModelRow, RowFailed
from model.request import Picture

DECODE = "decode"
"""The kind of the passes for which previews wait, see `ImageModel.preview`."""


@dataclass(slots=True, eq=False)
class _Running:
    """A row under way."""

    new: NewRow
    row: ModelRow
    cost: int
    started: float
    watched: bool
    fresh: bool = True
    preview: int | None = None  # the step at which one was asked for that is yet to be decoded

    @property
    def id(self) -> int:
        return self.new.id

    @property
    def kind(self) -> str:
        return self.row.kind

    @property
    def evaluations(self) -> int:
        return self.row.evaluations


def preview_steps(steps: int, previews: int) -> frozenset[int]:
    """After which of its steps a row shows a preview: ``previews`` of them, evenly spaced.

    They depend on the row alone, so that jobs which share it see the same ones.
    """
    return frozenset(steps * k // (previews + 1) for k in range(1, previews + 1)) - {0, steps}


class Runner:
    """Keeps the invariant that the rows under way cost at most ``model.slots`` evaluations."""

    def __init__(self, model: ImageModel[Any], previews: int) -> None:
        self._model = model
        self._previews = previews
        self._waiting: list[NewRow] = []  # as the line, those that are due first in front
        self._line: list[_Running] = []

    @property
    def running(self) -> bool:
        """Whether there are rows to step."""
        return bool(self._line)

    @property
    def has_rows(self) -> bool:
        """Whether any is here: the last of those under way may leave while others wait to start."""
        return bool(self._line or self._waiting)

    @property
    def full(self) -> bool:
        """Whether no row waits here, and one more like those under way would have to."""
        largest = max((running.cost for running in self._line), default=0)
        return not self._waiting and self._used + largest > self._model.slots

    @property
    def _used(self) -> int:
        """Slots that are taken."""
        return sum(running.cost for running in self._line)

    def add(self, row: NewRow) -> None:
        """Queues a row behind those that are due before it or came before it."""
        insort(self._waiting, row, key=lambda new: new.due)

    def watch(self, id_: int) -> None:
        """From now on, this row's previews are wanted."""
        for position, new in enumerate(self._waiting):
            if new.id == id_:
                self._waiting[position] = replace(new, watched=True)
        for running in self._line:
            if running.id == id_:
                running.watched = True

    def cancel(self, id_: int) -> bool:
        """Lets a row go; whether it was here."""
        for new in self._waiting:
            if new.id == id_:
                self._waiting.remove(new)
                return True
        for running in self._line:
            if running.id == id_:
                self._line.remove(running)
                self._model.release(running.row)
                return True
        return False

    def admit(self) -> Iterator[Refused]:
        """Starts the rows that fit; yields those that the model does not take."""
        costs = (self._model.cost(new.request) for new in self._waiting)
        for _ in range(admissible(costs, self._used, self._model.slots)):
            new = self._waiting.pop(0)
            try:
                row = self._model.start(new.request)
            except ValueError as error:
                yield Refused(new.id, str(error))
            else:
                cost = self._model.cost(new.request)
                running = _Running(new, row, cost, time.monotonic(), new.watched)
                insort(self._line, running, key=lambda one: one.new.due)

    def step(self, memory: int = 0) -> Stepped:
        """Advances the rows that are due first, and releases the finished ones."""
        began = time.monotonic()
        rows = choose(self._line, self._model.capacity)
        under_way = any(not running.fresh for running in rows)
        joined = sum(running.fresh for running in rows) if under_way else 0
        before = [running.row.step for running in rows]

        passes = self._model.step([running.row for running in rows])

        for running, step in zip(rows, before, strict=True):
            running.fresh = False
            if self._shows(running, step):
                self._model.preview(running.row)
                running.preview = running.row.step
        done = [running for running in rows if running.row.done]
        for running in done:
            self._line.remove(running)
        previewed = tuple(
            self._preview(running)
            for running in rows
            if _is_decoded(running) and running not in done
        )
        ended = [self._finish(running) for running in done]
        this = Step(
            model=self._model.spec.id,
            seconds=time.monotonic() - began,
            passes=tuple(passes),
            joined=joined,
            left=len(done) if self._line else 0,
        )
        return Stepped(
            steps=(this,),
            advanced=tuple(
                Advanced(running.id, running.row.step, running.row.steps) for running in rows
            ),
            previewed=previewed,
            finished=tuple(one for one in ended if isinstance(one, Finished)),
            memory=memory,
            failed=tuple(one for one in ended if isinstance(one, Failed)),
        )

    def _shows(self, running: _Running, before: int) -> bool:
        """Whether a preview is due, now that the row has advanced."""
        row, new = running.row, running.new
        return (
            running.watched
            and new.request.operation != "describe"
            and row.step > max(before, new.seen)
            and row.step in preview_steps(row.steps, self._previews)
        )

    def _preview(self, running: _Running) -> Previewed:
        step, running.preview = running.preview, None
        picture = self._model.result(running.row)
        assert step is not None
        assert isinstance(picture, Picture)
        return Previewed(running.id, step, picture)

    def _finish(self, running: _Running) -> Finished | Failed:
        try:
            result = self._model.result(running.row)
        except RowFailed as error:
            return Failed(running.id, str(error), error.refused)
        finally:
            self._model.release(running.row)
        return Finished(running.id, result, running.started, time.monotonic())


def _is_decoded(running: _Running) -> bool:
    """Whether a preview that was asked for can be shown."""
    return running.preview is not None and running.kind != DECODE
