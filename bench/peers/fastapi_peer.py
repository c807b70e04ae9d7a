"""FastAPI as one writes it first: a request has the model to itself, the others wait."""

from __future__ import annotations

import asyncio

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from bench.load import LoadRequest
from bench.peers.drawing import DrawingThread, PeerSettings, in_base64


def create_app(settings: PeerSettings) -> FastAPI:
    """The model is loaded before the port is open."""
    app = FastAPI()
    drawing = DrawingThread(settings)
    lock = asyncio.Lock()

    @app.post("/")
    async def draw(request: LoadRequest) -> Response:
        async with lock:
            loop = asyncio.get_running_loop()
            [files] = await loop.run_in_executor(drawing.executor, drawing.drawer.draw, [request])
        if request.n == 1:
            return Response(files[0], media_type="image/png")
        return JSONResponse(in_base64(files))

    return app


if __name__ == "__main__":
    given = PeerSettings.of_environment()
    uvicorn.run(create_app(given), port=given.port, log_level="warning")
