"""Waiting for what another process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable


def await_that(condition: Callable[[], object], seconds: float = 60) -> None:
    """Returns as soon as it holds; fails where it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
