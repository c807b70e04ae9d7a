"""If these fail, the first step after a pause waits for threads that share a core."""

from __future__ import annotations

import subprocess
import sys

import pytest

from model.cores import cores

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or cores() < 2, reason="needs Linux and two cores"
)

NATIVE = """
import os
import sys
import threading

import torch

from model.runtime.placement import apart

torch.set_num_threads(2)
torch.ones(512, 512) @ torch.ones(512, 512)
python = {thread.native_id for thread in threading.enumerate()}
native = {int(task) for task in os.listdir("/proc/self/task")} - python
if not native:
    sys.exit(77)
cores = os.sched_getaffinity(0)
everywhere = {id_: cores for id_ in native}

def where():
    return {id_: os.sched_getaffinity(id_) for id_ in native}
"""

APART = """
for core in sorted(cores)[:2]:
    os.sched_setaffinity(0, {core})  # moves this thread there
    os.sched_setaffinity(0, cores)
    with apart():
        (others,) = set(map(frozenset, where().values()))
        assert len(others) == len(cores) - 1
        assert all(os.sched_getaffinity(id_) == cores for id_ in python)
    assert where() == everywhere
    try:
        with apart():
            raise ValueError
    except ValueError:
        assert where() == everywhere
"""

BOUND = """
own = min(native)
os.sched_setaffinity(own, {min(cores)})
with apart():
    assert os.sched_getaffinity(own) == {min(cores)}
assert os.sched_getaffinity(own) == {min(cores)}
"""


ONE_CORE = """
one = {min(cores)}
for id_ in (*native, 0):
    os.sched_setaffinity(id_, one)
with apart():
    assert set(map(frozenset, where().values())) == {frozenset(one)}
"""


@pytest.mark.parametrize("code", [APART, BOUND, ONE_CORE], ids=["apart", "bound", "one core"])
def test_threads_of_libraries_keep_off_the_core_of_the_one_that_begins(code: str) -> None:
    ended = subprocess.run([sys.executable, "-c", NATIVE + code], check=False)
    if ended.returncode == 77:
        pytest.skip("torch has no threads of its own here")
    assert ended.returncode == 0
