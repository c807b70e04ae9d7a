"""One real server for all tests that only ask, and a way to start others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import openai
import pytest

from tests.service.running import Service, Start, official, running


@pytest.fixture(scope="session")
def tiny(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["flow"]


@pytest.fixture(scope="session")
def service(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("service") / "log"
    aliases = f"gpt-image-1={tiny.name},dall-e-3={tiny.name}"  # as other clients' defaults are
    with running(tiny, log, MODEL_ALIASES=aliases) as service:
        yield service.await_ready()


@pytest.fixture
def start(tiny: Path, tmp_path: Path) -> Start:
    """``start(NAME="value")`` is a server with settings of its own."""
    return partial(running, tiny, tmp_path / "log")


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[openai.OpenAI]:
    with official(service) as client:
        yield client


@pytest.fixture(scope="session")
def hasty(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server whose times are short, and that has room for 50 connections."""
    log = tmp_path_factory.mktemp("hasty") / "log"
    times = {"KEEP_ALIVE": "2", "HEAD_TIMEOUT": "2", "BODY_TIMEOUT": "2", "WRITE_TIMEOUT": "1"}
    with running(tiny, log, **times, MAX_CONNECTIONS="50") as service:
        yield service.await_ready()
