"""What is measured: Tessera and its peers, as data."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from bench.load import LoadRequest
from bench.machine import ROOT
from bench.peers.drawing import REQUEST_TIMEOUT, PeerSettings

PREFIXES = ("TESSERA_", "PEER_", "BENTOML_", "RAY_")
"""What such variables of the user's environment say must not change what is measured."""


@dataclass(frozen=True, slots=True)
class System:
    """One way to serve the model."""

    name: str  # for --only
    title: str
    package: str  # that must be installed
    arguments: tuple[str, ...]  # of Python
    path: str = "/"  # that is posted to
    body: Callable[[LoadRequest], object] = asdict

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    @property
    def version(self) -> str:
        """Of the package, where it has one of its own."""
        return importlib.metadata.version(self.package) if self.package != "app" else ""


def _by_picture(request: LoadRequest) -> object:
    """For a batched method, which takes a list of like things."""
    return {
        "pictures": [asdict(replace(request, seed=request.seed + k, n=1)) for k in range(request.n)]
    }


SYSTEMS = (
    System("tessera", "Tessera", "app", ("-m", "app.cli", "serve"), "/v1/images"),
    System("fastapi", "FastAPI", "fastapi", ("-m", "bench.peers.fastapi_peer")),
    System("litserve", "LitServe", "litserve", ("-m", "bench.peers.litserve_peer"), "/predict"),
    System(
        "bentoml",
        "BentoML",
        "bentoml",
        ("-m", "bentoml", "serve", "bench.peers.bentoml_peer:Pictures"),
        body=_by_picture,
    ),
    System("ray", "Ray Serve", "ray", ("-m", "bench.peers.ray_peer")),
)


def environment(settings: PeerSettings, folder: str) -> dict[str, str]:
    """The same for all systems: each reads what is meant for it, and OpenMP's settings.

    ``folder`` takes what they leave behind.
    """
    kept = {name: text for name, text in os.environ.items() if not name.startswith(PREFIXES)}
    threads, port = str(settings.threads), str(settings.port)
    return (
        kept
        | settings.environment()
        | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": folder,
            "OMP_NUM_THREADS": threads,
            "TESSERA_PORT": port,
            "TESSERA_MODELS": str(settings.checkpoint),
            "TESSERA_DEVICES": "cpu",
            "TESSERA_THREADS": threads,
            "TESSERA_CACHE_BYTES": "0",
            "TESSERA_FILE_CACHE_BYTES": "0",
            "TESSERA_MAX_ROWS_WAITING": "100000",
            "TESSERA_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT),
            "TESSERA_LOG_LEVEL": "WARNING",
            "BENTOML_HOST": "127.0.0.1",
            "BENTOML_PORT": port,
            "BENTOML_HOME": folder,
            "BENTOML_DO_NOT_TRACK": "True",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
    )
