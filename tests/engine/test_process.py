"""If these fail, one stopped worker stops the whole service: its probes, its other workers."""

from __future__ import annotations

import asyncio
import errno
import signal
import subprocess
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import psutil
import pytest

from app.engine import process
from app.engine.messages import (
    Admit,
    Cancel,
    FromWorker,
    Left,
    NewRow,
    Ready,
    Stepped,
    Stop,
)
from app.engine.process import WorkerProcess, describe_end
from model.runtime.waiting import SETTLED_BY
from tests.engine.fakes import request, settings, until

SETTINGS = settings("fast")


WAITING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")


class Started:
    def __init__(self, model: str = "fast") -> None:
        self.messages: list[FromWorker] = []
        self.ends: list[int] = []
        self.process = WorkerProcess(settings(model), self.messages.append, self.ends.append)

    async def ready(self) -> None:
        await until(lambda: any(isinstance(message, Ready) for message in self.messages))

    @property
    def reports(self) -> list[Stepped]:
        return [message for message in self.messages if isinstance(message, Stepped)]

    async def ended(self) -> int:
        await until(lambda: self.ends)
        (status,) = self.ends
        return status


async def test_a_stopped_worker_with_a_full_pipe_does_not_block_the_loop() -> None:
    started = Started()
    await started.ready()
    psutil.Process(started.process.pid).send_signal(signal.SIGSTOP)
    large = Cancel(tuple(range(100_000)))  # some 300 kB each: the first one fills the pipe
    slowest = 0.0
    for _ in range(200):
        began = time.monotonic()
        started.process.send(large)
        await asyncio.sleep(0)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.3  # for ever where the loop waits for the pipe
    assert not started.ends
    for _ in range(100):  # more than any worker leaves unread
        started.process.send(large)
    assert await started.ended() == -signal.SIGKILL


@pytest.mark.parametrize("allowed", [None, 0.5, 1.0])
@pytest.mark.parametrize(
    "given",
    [{}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "7"}, {"OMP_WAIT_POLICY": "PASSIVE"}],
)
async def test_how_a_workers_threads_wait(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], allowed: float | None
) -> None:
    # Whoever sets one of the variables has decided. Under a quota that its threads can use up, they
    # wait for a fixed time.
    monkeypatch.setattr(process, "quota", lambda: allowed)
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    started = Started()
    await started.ready()
    environment = psutil.Process(started.process.pid).environ()
    found = {name: environment[name] for name in WAITING if name in environment}
    short = {"GOMP_SPINCOUNT": "10000"} if allowed == 0.5 else {}
    settled = given.keys() & set(SETTLED_BY)
    assert found == ({} if settled else {"KMP_BLOCKTIME": "1", **short}) | given
    assert environment["OMP_NUM_THREADS"] == "1"
    started.process.kill()
    await started.ended()


async def test_what_a_worker_sent_arrives_before_its_end() -> None:
    started = Started()
    await started.ready()
    started.process.send(Stop())
    assert await started.ended() == 0


def a_row(model: str, id_: int, steps: int) -> NewRow:
    return NewRow(id_, request(model, id_, steps=steps, guidance=1.0), watched=False, seen=0)


async def test_short_steps_are_reported_together_and_none_is_lost() -> None:
    started = Started()
    await started.ready()
    started.process.send(Admit((a_row("fast", 0, 1000), a_row("fast", 1, 100))))
    await until(lambda: sum(len(one.finished) for one in started.reports) == 2)
    reports = started.reports
    assert len(reports) < 500  # some ten, as a step takes microseconds
    steps = [step for one in reports for step in one.steps]
    assert len(steps) == 1001  # the first is for encoding
    assert sum(done.evaluations for step in steps for done in step.passes) == 1001 + 101
    assert [step.left for step in steps] == [0] * 100 + [1] + [0] * 900
    seen = [(row.id, row.step) for one in reports for row in one.advanced]
    assert [step for id_, step in seen if id_ == 0] == sorted(
        {step for id_, step in seen if not id_}
    )
    assert {(0, 1000), (1, 100)} <= set(seen)
    started.process.kill()
    await started.ended()


@pytest.mark.parametrize(("rows", "reported"), [(7, False), (8, True), (9, False)])
async def test_slots_that_are_free_soon_are_reported_where_the_next_row_needs_them(
    rows: int, reported: bool
) -> None:
    # There are eight; of nine rows, the next one waits in the worker.
    started = Started()
    await started.ready()
    steps = [40, *[1000] * (rows - 1)]
    admit = Admit(tuple(a_row("fast", id_, count) for id_, count in enumerate(steps)))
    started.process.send(admit)
    await until(lambda: sum(len(one.finished) for one in started.reports) == rows)
    seen = [row.step for one in started.reports for row in one.advanced if row.id == 0]
    assert (39 in seen) is reported
    started.process.kill()
    await started.ended()


async def test_long_steps_are_reported_one_by_one() -> None:
    started = Started("slow")
    await started.ready()
    started.process.send(Admit((a_row("slow", 0, 4),)))
    await until(lambda: any(one.finished for one in started.reports))
    assert [row.step for one in started.reports for row in one.advanced] == [0, 1, 2, 3, 4]
    started.process.kill()
    await started.ended()


async def test_what_a_row_did_is_reported_before_it_has_left() -> None:
    started = Started("steady")
    await started.ready()
    for id_ in range(20):
        started.process.send(Admit((a_row("steady", id_, 1000),)))
        await asyncio.sleep(0.03)
        started.process.send(Cancel((id_,)))
    await until(lambda: sum(isinstance(message, Left) for message in started.messages) == 20)
    gone: set[int] = set()
    for message in started.messages:
        if isinstance(message, Left):
            gone.update(message.ids)
        elif isinstance(message, Stepped):
            assert not gone & {row.id for row in message.advanced}
    assert any(one.advanced for one in started.reports)
    started.process.kill()
    await started.ended()


async def test_a_writer_that_dies_ends_the_worker() -> None:
    # Otherwise nothing that is sent later arrives, and nobody notices.
    started = Started()
    await started.ready()
    started.process.send(Cancel((lambda: 0,)))  # type: ignore[arg-type] # cannot be pickled
    assert await started.ended() == -signal.SIGKILL


async def test_a_reader_that_dies_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise the worker computes, and nobody reads its results.
    def recv(self: Connection) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(Connection, "recv", recv)
    started = Started()
    assert await started.ended() == -signal.SIGKILL


async def test_a_thread_that_cannot_be_started_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith("from-worker"):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    this = psutil.Process()
    children, files, threads = this.children(), this.num_fds(), threading.enumerate()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Started()
    # No more than there were; what an earlier test left may end meanwhile. Threads as Python counts
    # them: to the kernel, one that has been joined exists for a moment longer.
    assert set(this.children()) <= set(children)
    assert this.num_fds() <= files
    assert set(threading.enumerate()) <= set(threads)


async def test_a_process_that_cannot_be_spawned_leaves_no_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: Any, **options: Any) -> NoReturn:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match="Cannot allocate memory"):
        Started()
    assert psutil.Process().num_fds() <= before


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "ended with status 1"), (-9, "was killed by SIGKILL"), (-99, "was killed by signal 99")],
)
def test_the_end_of_a_process_in_words(status: int, words: str) -> None:
    assert describe_end(status) == words


async def test_a_process_that_was_started_ahead_is_the_next_worker() -> None:
    process.spawn_ahead(2)
    process.spawn_ahead(1)
    other, ahead = (process._ahead[threads].process for threads in (2, 1))
    assert isinstance(ahead.args, list)  # the kernel tells them a moment later
    assert "torch" in ahead.args
    started, second = Started(), Started()
    assert started.process.pid == ahead.pid
    assert second.process.pid not in (ahead.pid, other.pid)  # the other has another OMP_NUM_THREADS
    await started.ready()
    for each in (started, second):
        each.process.kill()
        await each.ended()
    process._ahead.pop(2).connection.close()
    assert other.wait(timeout=30) == 0  # nobody is there who would send it settings


async def test_one_that_ended_before_it_had_work_ends_as_a_worker_does() -> None:
    process.spawn_ahead(1)
    process._ahead[1].process.kill()
    assert await Started().ended() == -signal.SIGKILL
