"""Where a test runs: here, and again on a GPU where there is one (`make gpu`).

What only ever runs on a machine that few have is broken when it is needed. So the tests of
promises that hold on every device take one of these, and run on the CPU each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from model.runtime.numerics import configure_determinism

GPU = "cuda:0"
DEVICES = ["cpu", pytest.param(GPU, marks=pytest.mark.gpu)]


@contextmanager
def configured(device: str) -> Iterator[str]:
    """Has this process compute as a worker does, for a while."""
    threads = torch.get_num_threads()
    configure_determinism(device)
    try:
        yield device
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
