"""If these fail, a service that was killed leaves processes behind which hold the device."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]

SERVICE = """
import asyncio
from tests.engine.fakes import ask, running, until, workers
from tests.engine.recorder import Recorder

async def main():
    recorder = Recorder()
    async with running("steady", metrics=recorder, devices=("cpu", "cpu")) as engine:
        jobs = [engine.submit(ask(prompt={prompt!r}, seed=k, steps=1000), timeout=999)
                for k in range(16)]
        if {prompt!r} == "hang":
            await asyncio.sleep(0.5)  # a step that never ends is preceded by no report
        else:
            await until(lambda: recorder.count["stepped"] >= 2)
        print(*(worker.pid for worker in workers()), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture(params=["a", "hang"])
def service(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process with an engine at work, or stuck in it; it says its workers' ids."""
    code = SERVICE.format(prompt=request.param)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def workers_of(service: subprocess.Popen[str]) -> list[psutil.Process]:
    assert service.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in service.stdout.readline().split()]
    assert len(workers) == 2
    return workers


def assert_ended(processes: list[psutil.Process], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while alive := [process for process in processes if is_alive(process)]:
        assert time.monotonic() < deadline, f"{alive} are alive"
        time.sleep(0.01)


def is_alive(process: psutil.Process) -> bool:
    """A zombie has ended: it only waits for whoever is process 1 here to take note."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_workers_end_within_two_seconds_of_a_parent_that_was_killed(
    service: subprocess.Popen[str],
) -> None:
    workers = workers_of(service)
    service.kill()
    assert_ended(workers, seconds=2)


def test_so_does_one_that_was_stopped(service: subprocess.Popen[str]) -> None:
    # It can read no end of file: the kernel must end it.
    workers = workers_of(service)
    workers[0].suspend()
    service.kill()
    assert_ended(workers, seconds=2)
