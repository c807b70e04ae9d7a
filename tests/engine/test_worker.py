"""If these fail, a worker sleeps while rows wait for it."""

from __future__ import annotations

from collections.abc import Iterator

from app.engine.messages import Admit, FromWorker, NewRow, Stepped, Stop, ToWorker
from app.engine.process import Pipe
from app.engine.runner import Runner
from app.engine.worker import Loop
from tests.engine.fakes import FakeDevice, FakeModel, request, settings

TILE = 4


class Script(Pipe):
    """A pipe with one message in it; a worker that sleeps until the next one is told to stop."""

    def __init__(self, first: ToWorker) -> None:  # no threads
        self.unread: list[ToWorker] = [first]
        self.sent: list[FromWorker] = []

    def receive(self, timeout: float) -> Iterator[ToWorker]:
        if self.unread:
            yield self.unread.pop()
        elif timeout:
            yield Stop()

    def send(self, message: FromWorker) -> None:
        self.sent.append(message)


def test_rows_that_came_while_others_ended_together_start_at_once() -> None:
    rows = [NewRow(id_, request("fast", id_, steps=3), False, 0) for id_ in range(3 * TILE)]
    pipe = Script(Admit(tuple(rows)))
    runners = {"fast": Runner(FakeModel("fast", TILE), previews=0)}
    Loop(pipe, FakeDevice(settings("fast")), runners).run()
    reports = [message for message in pipe.sent if isinstance(message, Stepped)]
    finished = [row.id for report in reports for row in report.finished]
    assert sorted(finished) == list(range(3 * TILE))
