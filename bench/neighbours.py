"""What two services on the same cores leave each other, by how long their threads wait awake.

    python -m bench.neighbours [--spins 300000 3000 300] [--seconds 15] [--rounds 3]

For each way of waiting (rounds of libgomp's loop, GOMP_SPINCOUNT): a service is started, asked for
one image at a time with a pause before each, and saturated alone; a second one is started beside
it, while it is busy; then both are saturated. Milliseconds of an image after a pause (the median,
and the slowest tenth take longer than), images a second of one, and of both together, and seconds
from the command to the first image: medians of all rounds, in which the ways take turns. "As it is"
is what the service sets by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from unittest import mock

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.load import (
    Kind,
    LoadRequest,
    Mix,
    closed_loop,
    load_client,
    one_by_one,
    percentile,
    sender,
)
from bench.peers.drawing import PeerSettings
from bench.peers.systems import SYSTEMS, running
from model.cores import cores
from model.registry import SHIPPED

TESSERA = SYSTEMS[0]
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
WARM_UP = 8  # answers
PAUSE = 0.1  # seconds, in which threads fall asleep whatever they were told


@dataclass(frozen=True, slots=True)
class Load:
    """What a saturated service is asked for."""

    steps: int
    in_flight: int
    seconds: float

    def requests(self, seed: int) -> Iterator[LoadRequest]:
        return Mix("equal", (Kind(self.steps, 1),)).requests(seed)

    async def saturate(self, urls: Sequence[str]) -> float:
        """Images a second of all of them."""
        return sum(await asyncio.gather(*map(self._saturate, urls)))

    async def after_pauses(self, url: str) -> list[float]:
        """Seconds that each image takes, drawn alone."""
        async with load_client(url) as client:
            send, requests = sender(client, TESSERA.path, TESSERA.body), self.requests(2)
            found = await one_by_one(send, requests, seconds=self.seconds, pause=PAUSE)
        return [outcome.latency for outcome in found]

    async def _saturate(self, url: str) -> float:
        async with load_client(url) as client:
            send, requests = sender(client, TESSERA.path, TESSERA.body), self.requests(1)
            measured = await closed_loop(
                send, requests, in_flight=self.in_flight, after=WARM_UP, seconds=self.seconds
            )
        if measured.errors:
            raise RuntimeError(f"{len(measured.errors)} requests failed: {measured.errors[0]}")
        return measured.images_per_second

    @asynccontextmanager
    async def on(self, urls: Sequence[str]) -> AsyncIterator[None]:
        """Keeps services busy."""

        async def ask(url: str, seed: int) -> None:
            async with load_client(url) as client:
                send = sender(client, TESSERA.path, TESSERA.body)
                for request in self.requests(seed):
                    await send(request)

        tasks = [asyncio.create_task(ask(url, s)) for url in urls for s in range(self.in_flight)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of an image and of a start, and images a second."""

    after_pauses: list[float]
    one: float
    two: float
    start: float
    start_beside: float


async def measure(settings: PeerSettings, load: Load, waiting: dict[str, str]) -> Measured:
    """One service and two, whose threads wait as the variables say."""
    first = next(load.requests(0))
    kept = {name: text for name, text in os.environ.items() if name not in WAITING}
    with mock.patch.dict(os.environ, kept | waiting, clear=True), ExitStack() as services:

        def start() -> tuple[str, float]:
            began = time.monotonic()
            service = services.enter_context(running(TESSERA, settings, first))
            return service.url, time.monotonic() - began

        url, alone = start()
        after_pauses = await load.after_pauses(url)
        one = await load.saturate([url])
        async with load.on([url]):
            second, beside = await asyncio.to_thread(start)
        return Measured(after_pauses, one, await load.saturate([url, second]), alone, beside)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji-flow")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--spins", nargs="*", default=["300000", "20000", "3000", "1000", "300"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    settings = PeerSettings(SHIPPED / given.model, given.threads, pictures=4, port=0)
    load = Load(given.steps, given.in_flight, given.seconds)
    ways = {
        "as it is": {},
        **{f"{spins} rounds": {"GOMP_SPINCOUNT": spins} for spins in given.spins},
        "not at all": {"OMP_WAIT_POLICY": "PASSIVE"},
    }
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    for way in track(list(ways) * given.rounds, description="measuring"):
        found[way].append(asyncio.run(measure(settings, load, ways[way])))
    images = ("after a pause, ms", "tenth", "one", "two", "two ÷ one")
    table = Table("awake for", *images, "start, s", "beside a busy one, s")
    for way, rounds in found.items():
        paused = [1000 * seconds for r in rounds for seconds in r.after_pauses]
        one, two, ratio, start, beside = (
            statistics.median(column)
            for column in zip(
                *((r.one, r.two, r.two / r.one, r.start, r.start_beside) for r in rounds),
                strict=True,
            )
        )
        table.add_row(
            way,
            *(f"{percentile(paused, share):.0f}" for share in (0.5, 0.9)),
            *(f"{one:.2f}", f"{two:.2f}", f"{ratio:.2f}", f"{start:.1f}", f"{beside:.1f}"),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
