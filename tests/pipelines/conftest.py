"""Tiny pipelines of every entry of the catalogue, and a service of all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

pytest.importorskip("diffusers", reason="the extra diffusers is not installed")

from tests.pipelines.makers_a import MAKERS as SOME
from tests.pipelines.makers_b import MAKERS as OTHERS
from tests.service.running import Service, running

MAKERS = SOME | OTHERS


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each, named as it is."""
    home = tmp_path_factory.mktemp("pipelines")
    for name, make in MAKERS.items():
        make(home / name)
    return {name: home / name for name in MAKERS}


@pytest.fixture(scope="package")
def service(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A server of all of them that keeps nothing, so that everything is computed."""
    settings = {
        "MODELS": ",".join(map(str, folders.values())),
        "CACHE_BYTES": "0",
        "FILE_CACHE_BYTES": "0",
        "MAX_ROWS_WAITING": "1000",
        "TILE": "4",
        "START_TIMEOUT": "900",
        "REQUEST_TIMEOUT": "600",
    }
    log = tmp_path_factory.mktemp("service") / "log"
    with running(next(iter(folders.values())), log, **settings) as running_service:
        yield running_service.await_ready(patience=600)
