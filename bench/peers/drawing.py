"""What all peers share: the model as Tessera loads it, and a batch of requests drawn with it.

What sets the peers apart from Tessera is then how requests come to share a pass, not the passes.
Their settings come from the environment, because their servers start processes of their own.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from app.pictures import Caption, Encoding, encode
from app.sampling import token_sampling
from bench.load import LoadRequest
from model.checkpoint import Checkpoint, load_model
from model.numerics import settle
from model.protocol import Picture, RowRequest
from model.sampling import generate

BATCH_WAIT = 0.01  # seconds for which a batch may wait to fill, where a peer asks
REQUEST_TIMEOUT = 3600  # seconds; none of those measured may fail for having waited


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How a peer runs."""

    checkpoint: Path
    threads: int  # of the model, on the CPU
    pictures: int  # that fill the model's tile: the most in a batch
    port: int

    @classmethod
    def of_environment(cls) -> PeerSettings:
        """What `environment` said."""
        given = os.environ
        return cls(
            checkpoint=Path(given["PEER_CHECKPOINT"]),
            threads=int(given["PEER_THREADS"]),
            pictures=int(given["PEER_PICTURES"]),
            port=int(given["PEER_PORT"]),
        )

    def environment(self) -> dict[str, str]:
        """What `of_environment` reads."""
        return {
            "PEER_CHECKPOINT": str(self.checkpoint),
            "PEER_THREADS": str(self.threads),
            "PEER_PICTURES": str(self.pictures),
            "PEER_PORT": str(self.port),
        }


class Drawer:
    """The checkpoint on the CPU at its default tile (or another), dtype and guidance."""

    def __init__(self, settings: PeerSettings, tile: int | None = None) -> None:
        settle("cpu", settings.threads)
        checkpoint = Checkpoint.open(settings.checkpoint)
        self._spec = checkpoint.spec
        self._sampling = token_sampling(self._spec, temperature=None, top_k=None, top_p=None)
        self._model = load_model(checkpoint, device="cpu", dtype="auto", tile=tile)

    def draw(self, requests: Sequence[LoadRequest]) -> list[list[bytes]]:
        """The PNG files of each request, drawn together, tile by tile."""
        rows = [self._row(request, k) for request in requests for k in range(request.n)]
        pictures = generate(self._model, rows)
        return [
            [self._png(next(pictures), request, k) for k in range(request.n)]
            for request in requests
        ]

    def _row(self, request: LoadRequest, k: int) -> RowRequest:
        return RowRequest(
            prompt=request.prompt,
            seed=request.seed + k,
            steps=request.steps,
            guidance=self._spec.guidance.default,
            solver=self._spec.solver,
            sampling=self._sampling,
        )

    def _png(self, picture: Picture, request: LoadRequest, k: int) -> bytes:
        """As the service writes it when it is told nothing else."""
        encoding = Encoding("png", picture.width, picture.height, "ffffff", quality=90)
        return encode(
            picture, encoding, Caption(request.prompt, request.seed + k, self._spec.id, "peer")
        )


class DrawingThread:
    """A `Drawer` in the one thread that ever uses it.

    Each thread that calls torch gets OpenMP threads of its own: drawing in turn from several would
    have those of the others spin on the cores.
    """

    def __init__(self, settings: PeerSettings) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1)
        self.drawer = self.executor.submit(Drawer, settings).result()


def in_base64(files: Sequence[bytes]) -> list[str]:
    """As JSON can carry them."""
    return [b64encode(file).decode() for file in files]
