"""One model's rows inside a worker: admitted when they fit, stepped together, let go at the end.

Runs where it is called; knows no process, no pipe and no other model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.engine.batcher import admissible, choose
from app.engine.messages import (
    Advanced,
    Assignment,
    Finished,
    Previewed,
    Refused,
    Stepped,
)
from model.protocol import ImageModel, Picture, Row


@dataclass(slots=True, eq=False)
class _Running:
    """A row under way."""

    assignment: Assignment
    row: Row
    started: float
    fresh: bool = True

    @property
    def kind(self) -> str:
        return self.row.kind

    @property
    def evaluations(self) -> int:
        return self.row.evaluations


def preview_steps(steps: int, previews: int) -> frozenset[int]:
    """After which of its steps a row shows itself: ``previews`` of them, evenly spaced.

    They depend on the row alone, so that requests which share it see the same ones.
    """
    return frozenset(steps * k // (previews + 1) for k in range(1, previews + 1)) - {0, steps}


class Runner:
    """Keeps the invariant that the rows under way take at most ``model.tile`` places."""

    def __init__(self, model: ImageModel[Any], previews: int) -> None:
        self._model = model
        self._previews = previews
        self._waiting: deque[Assignment] = deque()
        self._line: list[_Running] = []

    @property
    def running(self) -> bool:
        """Whether there are rows to step."""
        return bool(self._line)

    def add(self, assignment: Assignment) -> None:
        """Queues a row behind the others."""
        self._waiting.append(assignment)

    def watch(self, row: int) -> None:
        """From now on, this row's previews are wanted."""
        for place, assignment in enumerate(self._waiting):
            if assignment.id == row:
                self._waiting[place] = replace(assignment, watched=True)
        for running in self._line:
            if running.assignment.id == row:
                running.assignment = replace(running.assignment, watched=True)

    def cancel(self, row: int) -> bool:
        """Lets a row go; whether it was here."""
        for assignment in self._waiting:
            if assignment.id == row:
                self._waiting.remove(assignment)
                return True
        for running in self._line:
            if running.assignment.id == row:
                self._line.remove(running)
                self._model.release(running.row)
                return True
        return False

    def admit(self) -> Iterator[Refused]:
        """Starts the rows that fit; yields those that the model does not take."""
        used = sum(running.assignment.request.places for running in self._line)
        waiting = [assignment.request.places for assignment in self._waiting]
        for _ in range(admissible(waiting, used, self._model.tile)):
            assignment = self._waiting.popleft()
            try:
                row = self._model.start(assignment.request)
            except ValueError as error:
                yield Refused(assignment.id, str(error))
            else:
                self._line.append(_Running(assignment, row, time.monotonic()))

    def step(self, memory: int = 0) -> Stepped:
        """Advances the rows that are first in line, and lets the finished ones go."""
        began = time.monotonic()
        batch = choose(self._line, self._model.tile)
        evaluations = batch.evaluations
        veterans = any(not running.fresh for running in batch.rows)
        joined = sum(running.fresh for running in batch.rows) if veterans else 0

        self._model.step([running.row for running in batch.rows])

        previewed = [self._preview(running) for running in batch.rows if self._shows(running)]
        finished = [self._finish(running) for running in batch.rows if running.row.done]
        for running in batch.rows:
            running.fresh = False
        self._line = [
            *batch.rest,
            *(running for running in batch.rows if not running.row.done),
        ]
        return Stepped(
            model=self._model.spec.id,
            began=began,
            ended=time.monotonic(),
            tile=self._model.tile,
            evaluations=evaluations,
            joined=joined,
            left=len(finished) if self._line else 0,
            advanced=tuple(
                Advanced(running.assignment.id, running.row.step) for running in batch.rows
            ),
            previewed=tuple(previewed),
            finished=tuple(finished),
            memory=memory,
        )

    def _shows(self, running: _Running) -> bool:
        row = running.row
        return (
            running.assignment.watched
            and running.assignment.request.operation != "describe"
            and row.step > running.assignment.seen
            and row.step in preview_steps(row.steps, self._previews)
        )

    def _preview(self, running: _Running) -> Previewed:
        row = running.row
        picture = self._model.result(row)
        assert isinstance(picture, Picture)
        return Previewed(running.assignment.id, row.step, picture)

    def _finish(self, running: _Running) -> Finished:
        result = self._model.result(running.row)
        self._model.release(running.row)
        return Finished(running.assignment.id, result, running.started)
