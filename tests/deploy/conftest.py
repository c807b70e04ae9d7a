"""A model for replicas, and two of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.fleet import Replica, fleet


@pytest.fixture(scope="session")
def tiny(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["flow"]


@pytest.fixture(scope="session")
def replicas(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    """Two, for all balancers that only pass requests on to them."""
    with fleet(tiny, tmp_path_factory.mktemp("replicas")) as replicas:
        yield replicas
