"""If these fail, services on the same cores hold each other up, or one that is alone is slow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.cores import cores, quota
from model.runtime.waiting import (
    CROWDED,
    INTERVAL,
    LONGEST,
    SETTLED_BY,
    SHORTEST,
    CoreTime,
    Policy,
    adapt,
)

STATES = """
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from model.runtime import waiting

library = waiting.libgomp()
if library is None:
    sys.exit(77)
torch.set_num_threads(2)
matrix = torch.ones(512, 512)

def awake(expected):  # whether another thread runs after a product, with nothing more to do
    for _ in range(100):
        matrix @ matrix
        time.sleep(0.02)
        tasks = Path("/proc/self/task").iterdir()
        texts = [(task / "stat").read_text() for task in tasks if int(task.name) != os.getpid()]
        states = [text.rpartition(")")[2].split()[0] for text in texts]
        if ("R" in states) == expected:
            break
    return "R" in states
"""

SPARE = """
assert awake(True)
threads = waiting.SpareThreads(library, max(2, len(os.sched_getaffinity(0))))
assert not awake(False)
threads.end()
assert awake(True)
"""

CROWD = """
del os.environ["GOMP_SPINCOUNT"]
assert waiting.adapt(2)
core = min(os.sched_getaffinity(0))
for task in Path("/proc/self/task").iterdir():
    os.sched_setaffinity(int(task.name), {core})
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
try:
    assert not awake(False)
finally:
    for process in busy:
        process.kill()
"""


def run(code: str) -> None:
    """In a process whose OpenMP threads would never sleep."""
    others = {name: text for name, text in os.environ.items() if name not in SETTLED_BY}
    ended = subprocess.run(
        [sys.executable, "-c", STATES + code],
        env={**others, "GOMP_SPINCOUNT": str(10**12), "OMP_NUM_THREADS": "2"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if ended.returncode == 77:
        pytest.skip("torch's OpenMP is not libgomp here")
    assert ended.returncode == 0, ended.stderr


def test_with_spare_threads_the_others_sleep() -> None:
    run(SPARE)


def test_where_others_need_the_cores_threads_sleep() -> None:
    run(CROWD)


@pytest.mark.parametrize("name", SETTLED_BY)
def test_what_the_environment_settles_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    assert not adapt(2)


def test_one_thread_waits_for_no_other() -> None:
    assert not adapt(1)


def held(policy: Policy, now: float) -> float:
    """Seconds from now until it tries again, asked each interval."""
    later = now
    while policy.update(later, 0.0):
        later += INTERVAL
    return later - now


def test_threads_sleep_for_longer_each_time_that_waking_was_too_soon() -> None:
    policy, now, holds = Policy(), 0.0, []
    assert not policy.update(now, CROWDED)
    for _ in range(8):
        assert policy.update(now, CROWDED + 0.01)
        holds.append(held(policy, now))
        now += holds[-1] + INTERVAL
    assert holds == [SHORTEST, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST, LONGEST]
    assert not policy.update(now, 0.0)  # calm: what comes next is new
    assert policy.update(now, 1.0)
    assert held(policy, now) == SHORTEST


def test_what_others_take_counts_only_beside_what_there_is_to_do() -> None:
    before = CoreTime(5, 7)
    second = 10**9
    assert CoreTime(5 + second, 7 + second).share_since(before) == 0.5
    assert CoreTime(5, 7 + 10**6).share_since(before) == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's figures are Linux's")
def test_what_a_process_did_is_in_its_core_time() -> None:
    before = CoreTime.now()
    sum(range(3_000_000))
    assert CoreTime.now().ran > before.ran


GROUPS = "4:memory:/pod\n2:cpu,cpuacct:/pod/web\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "allowed"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/pod/web\n", {"pod/cpu.max": "50000 100000", "pod/web/cpu.max": "max 100000"}, 0.5),
        ("0::/../../outside\n", {"cpu.max": "200000 100000"}, 2.0),
        (GROUPS, {}, None),
        (GROUPS, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        (
            GROUPS,
            {"cpu/pod/web/cpu.cfs_quota_us": "50000", "cpu/pod/web/cpu.cfs_period_us": "20000"},
            2.5,
        ),
        # A container of version 1 sees its own group as the root.
        (GROUPS, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1.0),
        ("", {"cpu.max": "100000 100000"}, None),
    ],
)
def test_a_quota_is_the_least_of_the_groups_around_a_process(
    tmp_path: Path, groups: str, files: dict[str, str], allowed: float | None
) -> None:
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text + "\n")
    assert quota(tmp_path / "mount", tmp_path / "groups") == allowed


@pytest.mark.parametrize(("allowed", "count"), [(0.2, 1), (1.0, 1), (1.5, 2), (2.0, 2), (64.0, 4)])
def test_cores_are_no_more_than_a_quota_fills(
    monkeypatch: pytest.MonkeyPatch, allowed: float, count: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr("model.cores.quota", lambda: allowed)
    assert cores() == count
