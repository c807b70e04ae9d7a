"""Two processes train one model, here on one CPU over gloo, as ``torchrun`` starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from model.registry import open_checkpoint
from tests.deploy.fleet import free_ports
from tests.emoji_sets import make_set

NAMES = {"1f34e": "red apple", "1f680": "rocket", "1f436": "dog", "1f419": "octopus"}
SHAPE = "--size 16 --patch 8 --width 16 --depth 1 --batch 4 --no-compile --device cpu"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_set(tmp_path / "noto", "noto", NAMES)


@contextmanager
def launched(data: Path, out: Path, rest: str) -> Iterator[subprocess.Popen[str]]:
    """A run in two processes."""
    # Seconds, so that a process which loses the other says so before the launcher ends it.
    launch = "-m torch.distributed.run --nproc-per-node 2 --monitor-interval 3 --master-port"
    train = f"-m app.cli train {data} -o {out} {SHAPE} {rest}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *f"{launch} {free_ports(1)[0]} {train}".split()],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if _alive(process):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def _alive(process: subprocess.Popen[str]) -> bool:
    return process.poll() is None


def _steps(out: Path) -> list[int]:
    log = out / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [json.loads(line)["step"] for line in lines]


def _until_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while step not in _steps(out):
        assert time.monotonic() < deadline
        assert _alive(process), process.communicate()[0]
        time.sleep(0.1)


def test_two_processes_train_one_model_and_survive_the_loss_of_one(
    data: Path, tmp_path: Path
) -> None:
    """One is killed: both end, with one line, and the same command goes on and finishes."""
    out = tmp_path / "run"
    with launched(data, out, "--steps 1000000 --save-every 1") as process:
        _until_step(out, 3, process)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "app.cli" in child.cmdline()
        ]
        assert len(workers) == 2
        workers[-1].send_signal(signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "another process of the run has ended" in said
    done = _steps(out)[-1]
    with launched(data, out, f"--steps {done + 2}") as process:
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert "going on after step" in said
    assert _steps(out) == list(range(1, done + 3))
    open_checkpoint(out)
