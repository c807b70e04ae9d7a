"""If these fail, passes on a CPU wait for pages that the system clears, or the API process keeps
the memory of uploads.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's allocator")

SCRIPT = """
import resource, sys
from app import memory

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():  # as a pass: some tensors that live at once, the largest of 4 MiB
    [bytearray(size << 20) for size in (4, 1, 2, 4, 3, 4, 2, 4)]

getattr(memory, sys.argv[1])()
for _ in range(3):
    work()
before = pages()
for _ in range(10):
    work()
print(pages() - before)
"""


def faults(function: str, **variables: str) -> int:
    """Page faults of ten times 24 MiB, some times after the first."""
    command = [sys.executable, "-c", SCRIPT, function]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run(command, env=kept | variables, capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_a_worker_has_its_memory_still() -> None:
    assert faults("keep_freed_memory") < 100


def test_the_api_process_gives_it_back() -> None:
    assert faults("return_freed_memory") > 10 * 24 * 200  # 256 pages of 4 KiB in each MiB


def test_variables_come_first() -> None:
    assert faults("keep_freed_memory", MALLOC_TRIM_THRESHOLD_="0") > 10 * 24 * 200
