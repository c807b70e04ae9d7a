"""Servers to hurt: real processes with the tiny checkpoint, no memory of finished pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.faults.clients import PATIENCE
from tests.service.running import Service, running
from tests.tiny import tiny_flow

Start = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flow(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def start(tiny: Path, tmp_path: Path) -> Start:
    """``start(NAME="value")`` is a server with settings of its own."""
    return partial(
        running,
        tiny,
        tmp_path / "log",
        CACHE_BYTES="0",
        FILE_CACHE_BYTES="0",
        REQUEST_TIMEOUT=str(PATIENCE),
    )
