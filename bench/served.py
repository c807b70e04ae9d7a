"""What a saturated service delivers of what its model can do: images a second, served ÷ bare.

    python -m bench.served [--model emoji-flow] [--device cpu] [--rounds 5] [--in-flight 32]

*Bare* is the model in this process, with the service's tile, threads and waiting: full tiles of the
same requests, one after the other, no PNG. *Served* are PNG files that a client on the same cores
gets over HTTP, with so many requests in flight; no two share a picture, and no cache helps. The
two are measured in turn; medians of all rounds, with the least and the most.

The client shares the cores with what it measures, so it does as little as it can (`lean_sender`).
The last columns have CPU milliseconds an image: of the bare model, and of the worker, the API
process and the client. They say where the rest goes, also on a machine with other work.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.engine.process import wait_variables
from app.memory import keep_freed_memory
from bench.load import LoadRequest, Mix, Saturation, Send, closed_loop, mixes
from bench.peers.drawing import PeerSettings
from bench.peers.systems import SYSTEMS, running
from model.checkpoint import Checkpoint
from model.cores import cores
from model.protocol import ImageModel
from model.registry import SHIPPED, open_checkpoint, shipped
from model.runtime import waiting

TESSERA = SYSTEMS[0]
PARTS = ("bare", "worker", "API", "client")


@dataclass(frozen=True, slots=True)
class Round:
    """Images a second, and CPU seconds an image."""

    bare: float
    served: float
    cpu: tuple[float, ...]  # of `PARTS`

    @property
    def ratio(self) -> float:
        return self.served / self.bare


@contextlib.asynccontextmanager
async def lean_sender(url: str) -> AsyncIterator[Send]:
    """Posts to Tessera over connections that stay open, one for each request in flight.

    Costs a tenth of what a client library takes, and understands just what this service sends.
    """
    address = urlsplit(url)
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    opened: list[asyncio.StreamWriter] = []

    async def send(request: LoadRequest) -> bytes:
        if idle:
            reader, writer = idle.pop()
        else:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            opened.append(writer)
        body = json.dumps(asdict(request)).encode()
        head = (
            f"POST {TESSERA.path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: image/png\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        try:
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            content = await reader.readexactly(length)
        except (OSError, EOFError, ValueError) as error:
            raise httpx.HTTPError(f"no whole answer: {error}") from error
        idle.append((reader, writer))
        status = answer[: answer.index(b"\r\n")].decode()
        if " 200" not in status:
            raise httpx.HTTPError(status)
        return content

    try:
        yield send
    finally:
        for writer in opened:
            writer.close()


def bare(model: ImageModel[Any], requests: Iterator[LoadRequest], seconds: float) -> float:
    """Images a second of full tiles, drawn until the time is over."""
    from model.runtime.generate import generate

    def tile() -> int:
        asked = [next(requests) for _ in range(full)]
        rows = [spec.request(one.prompt, one.seed, steps=one.steps) for one in asked]
        return len(list(generate(model, rows)))

    spec = model.spec
    full = model.tile // model.cost(spec.request("a picture"))
    tile()
    drawn, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        drawn += tile()
    return drawn / (time.perf_counter() - began)


async def served(
    url: str, requests: Iterator[LoadRequest], in_flight: int, seconds: float
) -> Saturation:
    """What the saturated service delivers. Raises ``RuntimeError`` where a request fails."""
    async with lean_sender(url) as send:
        found = await closed_loop(
            send, requests, in_flight=in_flight, after=2 * in_flight, seconds=seconds
        )
    if found.errors:
        raise RuntimeError(f"{len(found.errors)} requests failed: {found.errors[0]}")
    return found


def measure(
    checkpoint: Checkpoint, settings: PeerSettings, *, in_flight: int, seconds: float, rounds: int
) -> list[Round]:
    """Both in turn, beside each other: the one that is not measured has nothing to do."""
    from model.loading import load_model
    from model.runtime.numerics import configure_determinism

    configure_determinism(settings.device, settings.threads)
    model = load_model(checkpoint, device=settings.device, dtype="auto")
    mix: Mix = mixes(checkpoint.spec)[0]
    requests, found = mix.requests(1), []
    with running(TESSERA, settings, next(requests)) as service:
        api, client = listener(service.url), psutil.Process()
        workers = api.children(recursive=True)
        for _ in track(range(rounds), description=checkpoint.spec.id):
            before, began = _cpu(client), time.monotonic()
            alone = bare(model, requests, seconds)
            own = (_cpu(client) - before) / (alone * (time.monotonic() - began))
            parts = (workers, [api], [client])
            before_parts, began = [_cpu(*part) for part in parts], time.monotonic()
            rate = asyncio.run(served(service.url, requests, in_flight, seconds)).images_per_second
            images = rate * (time.monotonic() - began)  # about: the first ones are not counted
            used = [_cpu(*part) - cpu for part, cpu in zip(parts, before_parts, strict=True)]
            found.append(Round(alone, rate, (own, *(cpu / images for cpu in used))))
    return found


def listener(url: str) -> psutil.Process:
    """The process that answers there."""
    port = urlsplit(url).port
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == port
            for one in process.net_connections()
        )
    )


def _cpu(*processes: psutil.Process) -> float:
    """Seconds."""
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def row(name: str, rounds: Sequence[Round]) -> list[str]:
    """Of the table."""
    ratios = [one.ratio for one in rounds]
    return [
        name,
        f"{statistics.median([one.bare for one in rounds]):.2f}",
        f"{statistics.median([one.served for one in rounds]):.2f}",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        *(
            f"{1000 * statistics.median(column):.1f}"
            for column in zip(*(r.cpu for r in rounds), strict=True)
        ),
    ]


def computing_as_a_worker(module: str, threads: int) -> None:
    """Has this process keep memory, and its OpenMP threads wait, as a worker does: see `app.memory`
    and `model.runtime.waiting`.

    Runs the module again where they are told so by variables, which OpenMP reads as torch is
    imported. And has SIGTERM end what the module starts.
    """
    if missing := wait_variables(threads, os.environ):
        again = [sys.executable, "-m", module, *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | missing)  # noqa: S606 - no shell is meant
    keep_freed_memory()
    waiting.adapt(threads)
    signal.signal(signal.SIGTERM, _leave)  # so that a service that runs is ended


def _leave(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", nargs="+", default=[folder.name for folder in shipped()])
    parser.add_argument("--device", default="cpu", help="or cuda:0")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    computing_as_a_worker("bench.served", given.threads)
    head = ("model", "bare, images/s", "served", "served ÷ bare")
    table = Table(*head, *(f"{part}, CPU ms" for part in PARTS))
    for name in given.model:
        checkpoint = open_checkpoint(SHIPPED / name if (SHIPPED / name).is_dir() else Path(name))
        settings = PeerSettings(checkpoint.folder, given.threads, 1, 0, given.device)
        rounds = measure(
            checkpoint,
            settings,
            in_flight=given.in_flight,
            seconds=given.seconds,
            rounds=given.rounds,
        )
        table.add_row(*row(checkpoint.spec.id, rounds))
        Console().print(table)


if __name__ == "__main__":
    main()
