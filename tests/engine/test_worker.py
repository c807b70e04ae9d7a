"""If these fail, a worker sleeps while rows wait for it, or begins slowly once it has slept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.engine import worker
from app.engine.messages import Admit, FromWorker, NewRow, Stepped, Stop, ToWorker
from app.engine.process import Pipe
from app.engine.runner import Runner
from app.engine.worker import Loop
from tests.engine.fakes import FakeDevice, FakeModel, request, settings

TILE = 4


class Script(Pipe):
    """A pipe with messages, of which a worker gets one whenever it has nothing to do, or none for
    so many seconds. At the end it is told to stop."""

    def __init__(self, *messages: ToWorker | float) -> None:  # no threads
        self.unread = [*messages, Stop()]
        self.sent: list[FromWorker] = []

    def receive(self, timeout: float) -> Iterator[ToWorker]:
        if timeout:
            message = self.unread.pop(0)
            if isinstance(message, float):
                time.sleep(message)
            else:
                yield message

    def send(self, message: FromWorker) -> None:
        self.sent.append(message)


class Watched(FakeDevice):
    """Counts the steps that come after a pause."""

    steps: int = 0
    first_steps: int = 0

    def memory(self) -> int:  # asked for in every step
        self.steps += 1
        return 0

    @contextmanager
    def after_a_pause(self) -> Iterator[None]:
        before = self.steps
        yield
        self.first_steps += self.steps - before


def test_rows_that_came_while_others_ended_together_start_at_once() -> None:
    rows = [NewRow(id_, request("fast", id_, steps=3), False, 0) for id_ in range(3 * TILE)]
    pipe = Script(Admit(tuple(rows)))
    runners = {"fast": Runner(FakeModel("fast", TILE), previews=0)}
    Loop(pipe, FakeDevice(settings("fast")), runners).run()
    reports = [message for message in pipe.sent if isinstance(message, Stepped)]
    finished = [row.id for report in reports for row in report.finished]
    assert sorted(finished) == list(range(3 * TILE))


@pytest.mark.parametrize(("least", "first_steps"), [(0.5, 2), (60.0, 0)])
def test_the_first_step_after_a_pause_is_told_to_the_device(
    monkeypatch: pytest.MonkeyPatch, least: float, first_steps: int
) -> None:
    """Not those that follow it; and though a sign of life comes between the pause and the row."""
    monkeypatch.setattr(worker, "PAUSE", least)
    rows = [NewRow(id_, request("fast", id_, steps=3), False, 0) for id_ in range(2)]
    device = Watched(settings("fast"))
    pipe = Script(*(message for row in rows for message in (0.5, Admit((row,)))))
    Loop(pipe, device, {"fast": Runner(FakeModel("fast", TILE), previews=0)}).run()
    assert device.first_steps == first_steps
    assert device.steps >= 6
