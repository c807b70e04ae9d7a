"""The whole application around a real engine with tiny models, asked without a socket.

One engine, with its worker process, serves all tests of this folder: they run in one event loop.
It keeps nothing, so that what is asked again is computed again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.engine import Engine, EngineSettings, Job
from app.metrics import Metrics
from app.settings import Settings
from model.request import ImageRequest
from tests.api.application import asking
from tests.engine.fakes import started

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    in_one_loop = pytest.mark.asyncio(loop_scope="session")
    for item in items:
        if FOLDER in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(in_one_loop, append=False)


@pytest.fixture(autouse=True)
def _no_dotenv(no_dotenv: None) -> None:
    pass


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    return Metrics()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tiny_models: dict[str, Path], metrics: Metrics) -> AsyncIterator[Engine]:
    """Of "tiny" (flow), "tiny-gpt" and "tiny-gan"."""
    settings = EngineSettings(
        models=tuple(tiny_models[family] for family in ("flow", "gpt", "gan")),
        devices=("cpu",),
        dtype="fp32",
        threads=1,
        cache_bytes=0,
    )
    async with started(Engine(settings, metrics)) as engine:
        await engine.wait_ready()
        yield engine


@pytest.fixture
def settings(no_dotenv: None) -> Settings:
    """Overridden by tests that are about a setting."""
    return Settings()


@pytest_asyncio.fixture(loop_scope="session")
async def client(
    engine: Engine, settings: Settings, metrics: Metrics
) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(engine, settings, metrics) as client:
        yield client


@pytest.fixture
def submitted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[ImageRequest, ...]]:
    """What the engine has accepted since the test began: the requests of each job."""
    jobs: list[tuple[ImageRequest, ...]] = []
    submit = engine.submit

    def recording(requests: Sequence[ImageRequest], **options: Any) -> Job:
        job = submit(requests, **options)
        jobs.append(job.requests)
        return job

    monkeypatch.setattr(engine, "submit", recording)
    return jobs
