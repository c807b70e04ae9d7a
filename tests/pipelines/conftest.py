"""Tiny pipelines of every entry of the catalogue, and a service of all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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

FEW = {"flux-dev", "flux-kontext", "sd3", "dit", "qwen-image", "z-image"}
"""One of each kind, for every run of the tests. The others are tried under TESSERA_TEST_FULL."""

WITH_UPLOADS = (
    *("flux-dev", "sd3", "z-image", "sana-sprint", "sdxl", "dit"),
    *("flux-kontext", "qwen-edit", "qwen-edit-plus", "flux2-klein"),
)
"""Those whose operations are tried."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the others' tests."""
    everything = config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    if everything is not None and everything.FULL:
        return
    left_out = MAKERS.keys() - FEW
    others = [item for item in items if left_out & _names(item)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def _names(item: pytest.Item) -> set[str]:
    """What its parameters name."""
    if Path(__file__).parent not in item.path.parents:
        return set()
    values = getattr(item, "callspec", None)
    return (
        {value for value in values.params.values() if isinstance(value, str)} if values else set()
    )


class Folders(Mapping[str, Path]):
    """A pipeline of each kind in ``home``, made when it is asked for."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __getitem__(self, name: str) -> Path:
        folder = self._home / name
        if not folder.exists():
            MAKERS[name](folder)
        return folder

    def __iter__(self) -> Iterator[str]:
        return iter(MAKERS)

    def __len__(self) -> int:
        return len(MAKERS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture(scope="session")
def served(folders: Folders, full: bool) -> dict[str, Path]:
    """Those of the service."""
    few = FEW.union(WITH_UPLOADS)
    return {name: folders[name] for name in folders if full or name in few}


@pytest.fixture(scope="session")
def service(served: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server of them that keeps nothing, so that everything is computed."""
    settings = {
        "MODELS": ",".join(map(str, served.values())),
        "CACHE_BYTES": "0",
        "FILE_CACHE_BYTES": "0",
        "MAX_ROWS_WAITING": "1000",
        "MAX_PROMPT_CHARACTERS": "10000",
        "TILE": "4",
        "START_TIMEOUT": "900",
        "REQUEST_TIMEOUT": "600",
    }
    log = tmp_path_factory.mktemp("service") / "log"
    with running(next(iter(served.values())), log, **settings) as running_service:
        yield running_service.await_ready(patience=600)
