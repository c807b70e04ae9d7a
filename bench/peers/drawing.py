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

from app.generation.output import Metadata, encode
from app.generation.resolve import Generation, Limits, Wanted, resolve
from bench.load import LoadRequest
from model.loading import load_model
from model.registry import open_checkpoint
from model.request import Picture
from model.runtime.generate import generate
from model.runtime.numerics import configure_determinism

BATCH_WAIT = 0.01  # seconds for which a batch may wait to fill, where a peer asks
REQUEST_TIMEOUT = 3600  # seconds; none of those measured may fail for having waited


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How a peer runs."""

    checkpoint: Path
    threads: int  # of the model, on the CPU
    pictures: int  # that fill the model's tile: the most in a batch
    port: int
    device: str = "cpu"

    @classmethod
    def of_environment(cls) -> PeerSettings:
        """As `environment` has them."""
        given = os.environ
        return cls(
            checkpoint=Path(given["PEER_CHECKPOINT"]),
            threads=int(given["PEER_THREADS"]),
            pictures=int(given["PEER_PICTURES"]),
            port=int(given["PEER_PORT"]),
            device=given["PEER_DEVICE"],
        )

    def environment(self) -> dict[str, str]:
        """What `of_environment` reads."""
        return {
            "PEER_CHECKPOINT": str(self.checkpoint),
            "PEER_THREADS": str(self.threads),
            "PEER_PICTURES": str(self.pictures),
            "PEER_PORT": str(self.port),
            "PEER_DEVICE": self.device,
        }


class Drawer:
    """The checkpoint at the device's default tile and dtype.

    Passes are as small as their rows allow, as in the service (`model.runtime.rungs`).
    """

    def __init__(self, settings: PeerSettings) -> None:
        configure_determinism(settings.device, settings.threads)
        self._checkpoint = open_checkpoint(settings.checkpoint)
        self._model = load_model(self._checkpoint, device=settings.device, dtype="auto")

    def draw(self, requests: Sequence[LoadRequest]) -> list[list[bytes]]:
        """The PNG files of each request, drawn together, tile by tile."""
        generations = [self._resolved(request) for request in requests]
        pictures = generate(self._model, [row for one in generations for row in one.requests])
        return [
            [_png(next(pictures), generation, index) for index in range(len(generation.requests))]
            for generation in generations
        ]

    def _resolved(self, request: LoadRequest) -> Generation:
        """What the service makes of the same request."""
        wanted = Wanted(
            prompt=request.prompt,
            seed=request.seed,
            n=request.n,
            parameters={"steps": request.steps},
        )
        return resolve(wanted, self._checkpoint, Limits())


def _png(picture: Picture, generation: Generation, index: int) -> bytes:
    request = generation.requests[index]
    caption = Metadata(request.prompt, request.seed, request.model, "peer")
    return encode(picture, generation.output, caption)


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
