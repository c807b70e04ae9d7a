"""One real server for all tests that only ask, and a way to start others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.service.running import Service, running
from tests.tiny import tiny_flow

Start = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flow(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def service(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("service") / "log"
    with running(tiny, log) as service:
        yield service.await_ready()


@pytest.fixture
def start(tiny: Path, tmp_path: Path) -> Start:
    """``start(NAME="value")`` is a server with settings of its own."""
    return partial(running, tiny, tmp_path / "log")


def official(service: Service, **options: Any) -> openai.OpenAI:
    """The OpenAI client, unchanged but for its base_url; it tries once, unless told otherwise."""
    given: dict[str, Any] = {"api_key": "unused", "max_retries": 0, "timeout": 60, **options}
    return openai.OpenAI(base_url=f"{service.url}/v1", **given)


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[openai.OpenAI]:
    with official(service) as client:
        yield client
