"""LitServe: requests wait in a queue of its worker, which draws up to a full batch at once.

What it counts in a batch are requests, of however many pictures.
"""

from __future__ import annotations

import litserve
from fastapi import Response
from fastapi.responses import JSONResponse

from bench.load import LoadRequest
from bench.peers.drawing import BATCH_WAIT, Drawer, PeerSettings, in_base64


class Pictures(litserve.LitAPI):
    """The hooks, in the order in which they are called."""

    def setup(self, device: str) -> None:
        self.drawer = Drawer(PeerSettings.of_environment())

    def decode_request(self, request: dict[str, object]) -> LoadRequest:
        return LoadRequest(**request)  # type: ignore[arg-type] # bench/load.py wrote it

    def batch(self, inputs: list[LoadRequest]) -> list[LoadRequest]:
        return inputs

    def predict(self, inputs: list[LoadRequest]) -> list[list[bytes]]:
        return self.drawer.draw(inputs)

    def unbatch(self, output: list[list[bytes]]) -> list[list[bytes]]:
        return output

    def encode_response(self, output: list[bytes]) -> Response:
        if len(output) == 1:
            return Response(output[0], media_type="image/png")
        return JSONResponse(in_base64(output))


if __name__ == "__main__":
    given = PeerSettings.of_environment()
    api = Pictures(max_batch_size=given.pictures, batch_timeout=BATCH_WAIT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=given.port, log_level="warning", generate_client_file=False)
