"""The whole application around an engine that paints at once, asked without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.main import assemble
from app.metrics import Metrics
from app.settings import Settings
from tests.api.easel import Easel
from tests.tiny import tiny_flow


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flow(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def _no_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's .env must not change what is tested."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings() -> Settings:
    """Overridden by tests that are about a setting."""
    return Settings()


@pytest.fixture
async def easel(folder: Path) -> Easel:
    engine = Easel(folder)
    await engine.start()
    return engine


@pytest.fixture
async def client(easel: Easel, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = assemble(settings, easel, Metrics())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tessera") as client:
        yield client
