"""Ray Serve: a replica whose batching queue takes pictures, a request's own beside each other's."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import ray
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from ray import serve

from bench.load import LoadRequest
from bench.peers.drawing import BATCH_WAIT, DrawingThread, PeerSettings, in_base64

SETTINGS = PeerSettings.of_environment()
OBJECT_STORE = 100 * 2**20  # bytes
MOST_REQUESTS = 100_000  # in flight; by default, five


class Pictures:
    """Has the model."""

    def __init__(self) -> None:
        self.drawing = DrawingThread(SETTINGS)

    async def __call__(self, http: Request) -> Response:
        request = LoadRequest(**await http.json())
        first = replace(request, n=1)
        files = await asyncio.gather(
            *(self.draw(replace(first, seed=request.seed + k)) for k in range(request.n))
        )
        if request.n == 1:
            return Response(files[0], media_type="image/png")
        return JSONResponse(in_base64(files))

    @serve.batch(max_batch_size=SETTINGS.pictures, batch_wait_timeout_s=BATCH_WAIT)
    async def draw(self, pictures: list[LoadRequest]) -> list[bytes]:
        loop = asyncio.get_running_loop()
        drawing = self.drawing
        drawn = await loop.run_in_executor(drawing.executor, drawing.drawer.draw, pictures)
        return [file for [file] in drawn]


def main() -> None:
    """Runs until SIGTERM, which Ray turns into ``SystemExit``."""
    ray.init(include_dashboard=False, object_store_memory=OBJECT_STORE, _temp_dir=str(Path.cwd()))
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": SETTINGS.port})
        deployment = serve.deployment(num_replicas=1, max_ongoing_requests=MOST_REQUESTS)
        serve.run(deployment(Pictures).bind())
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
