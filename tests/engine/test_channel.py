"""If these fail, one stopped worker stops the whole service: its probes, its other workers."""

from __future__ import annotations

import asyncio
import signal
import time

import psutil
import pytest

from app.engine.channel import Channel, describe_end
from app.engine.messages import Cancel, FromWorker, Ready, Stop, WorkerSettings
from tests.engine.fakes import until

SETTINGS = WorkerSettings(
    opener="tests.engine.fakes:open_device",
    device="cpu",
    models=("fast",),
    dtype="auto",
    tile=None,
    threads=1,
    cuda_graphs=True,
    previews=0,
)


class Heard:
    def __init__(self) -> None:
        self.messages: list[FromWorker] = []
        self.ends: list[int] = []
        self.channel = Channel(SETTINGS, self.messages.append, self.ends.append)

    async def ready(self) -> None:
        await until(lambda: any(isinstance(message, Ready) for message in self.messages))


async def test_a_stopped_worker_with_a_full_pipe_does_not_block_the_loop() -> None:
    heard = Heard()
    await heard.ready()
    psutil.Process(heard.channel.pid).send_signal(signal.SIGSTOP)
    large = Cancel(tuple(range(100_000)))  # some 300 kB each: the first one fills the pipe
    slowest = 0.0
    for _ in range(200):
        began = time.monotonic()
        heard.channel.send(large)
        await asyncio.sleep(0)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.3  # for ever where the loop waits for the pipe
    assert not heard.ends
    for _ in range(100):  # more than any worker leaves unread
        heard.channel.send(large)
    await until(lambda: heard.ends)
    assert heard.ends == [-signal.SIGKILL]


async def test_what_a_worker_said_is_heard_before_its_end() -> None:
    heard = Heard()
    await heard.ready()
    heard.channel.send(Stop())
    await until(lambda: heard.ends)
    assert heard.ends == [0]


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "ended with status 1"), (-9, "was killed by SIGKILL"), (-99, "was killed by signal 99")],
)
def test_the_end_of_a_process_in_words(status: int, words: str) -> None:
    assert describe_end(status) == words
