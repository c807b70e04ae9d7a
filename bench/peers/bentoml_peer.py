"""BentoML: a method whose calls are batched adaptively, by the pictures that each asks for.

The port leads to it directly. A service in front of it, which would take a request as the others
do, reaches it over connections that BentoML 1.4 closes while it uses them (its issue 4971).
"""

from __future__ import annotations

import bentoml

from bench.load import LoadRequest
from bench.peers.drawing import REQUEST_TIMEOUT, Drawer, PeerSettings, in_base64

SETTINGS = PeerSettings.of_environment()


@bentoml.service(workers=1, traffic={"timeout": REQUEST_TIMEOUT})
class Pictures:
    """Has the model."""

    def __init__(self) -> None:
        self.drawer = Drawer(SETTINGS)

    # What it expects to take longer than max_latency_ms it refuses; it does not wait for so long.
    @bentoml.api(
        route="/",
        batchable=True,
        max_batch_size=SETTINGS.pictures,
        max_latency_ms=1000 * REQUEST_TIMEOUT,
    )
    def draw(self, pictures: list[LoadRequest]) -> list[str]:
        return in_base64([file for [file] in self.drawer.draw(pictures)])
