"""If this fails, a service that runs for long loses requests, or what they took.

Two replicas behind nginx by deploy/nginx. Clients ask in every way, and some leave, pipeline, never
read or send half of a request, while workers are killed and frozen and a replica runs out of
descriptors. TESSERA_TEST_SOAK=60 runs it for so many seconds; it is part of the full counts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import resource
import signal
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import SOAK
from tests.deploy.fleet import Replica, fleet, nginx
from tests.faults.clients import until, workers
from tests.generation.corpus import drawing, written
from tests.service.raw import large_edit, posted

Program = Callable[[str], str]

FULL_SECONDS = 1200.0
WARM_SECONDS = 15.0
THREADS = 8
"""Of a server: the loop's, the worker's two, two to encode, two for uploads, one to read files."""

MIB = 2**20

ROOM = 32 * MIB
"""What a server may hold more than before: heaps of threads that are never quite empty. That
nothing is kept of a request is what tests/faults/test_service_memory.py measures."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout((SOAK or FULL_SECONDS) + 600)]

SETTINGS = {
    "CACHE_BYTES": "0",
    "FILE_CACHE_BYTES": "0",
    "MAX_ROWS_WAITING": "1000",
    "REQUEST_TIMEOUT": "60",
    "STEP_TIMEOUT": "3",
    "START_TIMEOUT": "30",  # for a worker that is frozen while it starts
    "KEEP_ALIVE": "4",
    "HEAD_TIMEOUT": "3",
    "BODY_TIMEOUT": "3",
    "UPLOAD_TIMEOUT": "3",
    "WRITE_TIMEOUT": "3",
}
UPLOAD = written(drawing(), "PNG")


@dataclass(frozen=True)
class Question:
    """A request, and how its images come."""

    kind: str
    body: dict[str, Any]

    def send(
        self, http: httpx.AsyncClient
    ) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        if self.kind == "address":
            query = {name: value for name, value in self.body.items() if name != "seed"}
            return http.stream("GET", f"/v1/images/{self.body['seed']}.png", params=query)
        if self.kind == "edit":
            return http.stream(
                "POST", "/v1/images/transform", data=self.body, files={"image": UPLOAD}
            )
        accept = {"image": "image/png", "json": "application/json", "events": "text/event-stream"}
        headers = {"Accept": accept[self.kind]}
        return http.stream("POST", "/v1/images", json=self.body, headers=headers)


def question(k: int) -> Question:
    """The k-th of all that are asked; equal numbers, equal questions."""
    body = {"prompt": "red apple", "seed": k, "steps": 10 + k % 17}
    match k % 5:
        case 0:
            return Question("address", body)
        case 1:
            return Question("image", body)
        case 2:
            return Question("json", {**body, "n": 3})
        case 3:
            return Question("events", {**body, "n": 2, "previews": True})
        case _:
            return Question("edit", {**body, "operation": "vary"})


class Late(Exception):
    """The answer was its deadline's 504."""


async def images(http: httpx.AsyncClient, asked: Question) -> list[bytes]:
    """What is drawn. Raises `Late`, and ``AssertionError`` for every other failure."""
    async with asked.send(http) as answer:
        if answer.status_code != 200:
            text = (await answer.aread()).decode()
            if answer.status_code == 504 and "deadline_exceeded" in text:
                raise Late
            raise AssertionError(f"{answer.status_code}: {text}")
        match asked.kind:
            case "json":
                found = json.loads(await answer.aread())["images"]
                return [base64.b64decode(image["b64_json"]) for image in found]
            case "events":
                return await _streamed(answer)
            case _:
                return [await answer.aread()]


async def _streamed(answer: httpx.Response) -> list[bytes]:
    drawn: dict[int, bytes] = {}
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
            if name == "image":
                drawn[data["index"]] = base64.b64decode(data["b64_json"])
            elif name == "error":
                if data["error"]["code"] == "deadline_exceeded":
                    raise Late
                raise AssertionError(f"in a stream: {data}")
        if name == "done":
            return [drawn[index] for index in sorted(drawn)]
    raise AssertionError("a stream ended without its end")


@dataclass
class Soak:
    """The load, the accidents, and what came of them."""

    url: str
    replicas: list[Replica]
    expected: list[list[bytes]]
    dice: random.Random
    over: asyncio.Event = field(default_factory=asyncio.Event)
    starved: Counter[int] = field(default_factory=Counter)  # by port: begun and ended; odd: now
    came_of: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    # Clients ------------------------------------------------------------------------------------

    async def asks(self, http: httpx.AsyncClient) -> None:
        """A client as most are. Whatever it is not answered rightly is a fault."""
        k = self.dice.randrange(len(self.expected))
        try:
            drawn = await images(http, question(k))
        except Late:
            self.came_of["late"] += 1
        except (AssertionError, httpx.HTTPError) as error:
            self.wrong.append(f"{question(k)}: {error!r}")
        else:
            self.came_of["answered"] += 1
            if drawn != self.expected[k]:
                self.wrong.append(f"{question(k)}: other bytes")

    async def leaves(self) -> None:
        body = {"seed": self.dice.randrange(10**6), "steps": 100, "n": 4, "prompt": "left"}
        request = posted(body)
        if self.dice.random() < 0.5:
            request = request.replace(b"application/json", b"text/event-stream", 1)
        async with self.connection(self.anywhere()) as (reader, writer):
            writer.write(request)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1000), self.dice.uniform(0, 1.5))
            if self.dice.random() < 0.5:  # a reset rather than an end
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.came_of["left"] += 1

    async def pipelines(self) -> None:
        """Several requests at once to a replica itself, as nginx would send them one by one."""
        places = [k for k in range(len(self.expected)) if question(k).kind == "image"]
        asked = self.dice.sample(places, 4)
        requests = b"".join(
            posted(question(k).body).replace(b"application/json", b"image/png", 1) for k in asked
        )
        replica = self.dice.choice(self.replicas)
        starved = self.starved[replica.port]
        answered = 0
        try:
            async with self.connection(replica.port) as (reader, writer):
                writer.write(requests)
                if self.dice.random() < 0.3:
                    self.came_of["pipelined and left"] += 1
                    return
                for k in asked:
                    status, body = await next_answer(reader)
                    answered += 1
                    if status == 504:
                        self.came_of["late"] += 1
                    elif (status, [body]) != (200, self.expected[k]):
                        self.wrong.append(f"pipelined: {status} {body[:200]!r}")
                self.came_of["pipelined"] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            # Where there is no descriptor, a connection is closed before anything is read.
            starving = starved % 2 or self.starved[replica.port] != starved
            if answered or not starving:
                self.wrong.append(f"pipelined, {answered} answers: {error!r}")

    async def never_reads(self) -> None:
        accept = self.dice.choice([b"application/json", b"text/event-stream"])
        async with self.connection(self.anywhere(), window=4096) as (_, writer):
            writer.write(await asyncio.to_thread(large_edit, accept))
            await self.wait(12)
        self.came_of["not read"] += 1

    async def sends_half(self) -> None:
        request = self.dice.choice([posted({"seed": 1}), _LARGE, posted({"seed": 1}) + b"POST /"])
        request = request[: self.dice.randrange(1, len(request))]
        port = self.anywhere()
        async with self.connection(port) as (reader, writer):
            writer.write(request)
            # Before the half there may be a whole request, whose answer may be late.
            bound = float(SETTINGS["REQUEST_TIMEOUT"]) + 10
            try:
                await asyncio.wait_for(reader.read(), bound if port in self.ports else 3)
            except TimeoutError:
                if port in self.ports:
                    self.wrong.append(f"half of a request was waited for: ...{request[-100:]!r}")
        self.came_of["sent by half"] += 1

    @property
    def ports(self) -> list[int]:
        return [replica.port for replica in self.replicas]

    def anywhere(self) -> int:
        """The port of nginx, or of a replica."""
        return self.dice.choice([httpx.URL(self.url).port or 0, *self.ports])

    @contextlib.asynccontextmanager
    async def connection(
        self, port: int, *, window: int | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        sock = socket.socket()
        if window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1024 if window else MIB)
        if window:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def wait(self, seconds: float) -> None:
        """So long, or until it is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    # Accidents ----------------------------------------------------------------------------------

    async def accidents(self) -> None:
        while True:
            await self.wait(self.dice.uniform(3, 8))
            if self.over.is_set():
                return
            replica = self.dice.choice(self.replicas)
            what = self.dice.choice(["killed", "frozen", "starved", "starved and killed"])
            if "starved" in what:
                await self.starve(replica, kill="killed" in what)
            for worker in workers(replica.service) if "starved" not in what else ():
                worker.send_signal(signal.SIGKILL if what == "killed" else signal.SIGSTOP)
            self.came_of[what] += 1

    async def starve(self, replica: Replica, *, kill: bool) -> None:
        """For a moment there is no descriptor for a connection, nor for another worker."""
        process = psutil.Process(replica.service.process.pid)
        before = process.rlimit(resource.RLIMIT_NOFILE)
        self.starved[replica.port] += 1
        process.rlimit(resource.RLIMIT_NOFILE, (max(3, process.num_fds() - 1), before[1]))
        try:
            for worker in workers(replica.service) if kill else ():
                worker.kill()
            await asyncio.sleep(self.dice.uniform(0.5, 2.5))
        finally:
            process.rlimit(resource.RLIMIT_NOFILE, before)
            self.starved[replica.port] += 1

    # ----------------------------------------------------------------------------------------------

    async def load(self, *, accidents: bool) -> None:
        """Returns after `over`, once all clients have what they asked for."""

        async def again(client: Callable[[], Awaitable[None]], pause: float) -> None:
            while not self.over.is_set():
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await client()
                await self.wait(self.dice.uniform(0, pause))

        async with (
            httpx.AsyncClient(base_url=self.url, timeout=300) as http,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(6):
                group.create_task(again(lambda: self.asks(http), 0.2))
            group.create_task(again(self.leaves, 1))
            group.create_task(again(self.pipelines, 1))
            group.create_task(again(self.never_reads, 10))
            for _ in range(2):
                group.create_task(again(self.sends_half, 1))
            if accidents:
                group.create_task(self.accidents())

    async def for_(self, seconds: float, *, accidents: bool) -> None:
        self.over.clear()
        loading = asyncio.create_task(self.load(accidents=accidents))
        await asyncio.wait((loading,), timeout=seconds)
        self.over.set()
        await loading

    async def held(self, replica: Replica) -> dict[str, float]:
        """What a replica's server has, once it has nothing to do."""
        service = replica.service

        async def quiet() -> bool:
            names = ("rows_running", "rows_waiting", "upload_memory_bytes", "encode_waiting_bytes")
            busy = [await asyncio.to_thread(service.metric, name) for name in names]
            return not any(busy) and await asyncio.to_thread(service.metric, "workers") == 1

        await until(quiet)
        await asyncio.sleep(2 * float(SETTINGS["KEEP_ALIVE"]))
        process = psutil.Process(service.process.pid)
        return {
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
            "processes": len(process.children(recursive=True)),
            "memory": process.memory_info().rss,
        }


_LARGE = large_edit(b"application/json")


async def next_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().splitlines()
        if line.startswith(b"content-length:")
    )
    return int(head.split()[1]), await reader.readexactly(length)


async def test_nothing_is_lost_and_nothing_is_kept(
    program: Program, tiny: Path, tmp_path: Path, full: bool
) -> None:
    if not (full or SOAK):
        pytest.skip("takes minutes: TESSERA_TEST_FULL=1, or TESSERA_TEST_SOAK=SECONDS")
    path = program("nginx")
    seconds = SOAK or FULL_SECONDS
    with (
        fleet(tiny, tmp_path, (), **SETTINGS) as replicas,
        nginx(path, tmp_path, [replica.port for replica in replicas]) as url,
    ):
        async with replicas[0].service.client() as http:
            expected = [await images(http, question(k)) for k in range(100)]
        soak = Soak(url, replicas, expected, random.Random(17))
        await soak.for_(WARM_SECONDS, accidents=False)
        assert not soak.came_of["late"]
        await soak.for_(seconds / 10, accidents=True)  # what is allocated once
        before = await asyncio.gather(*map(soak.held, replicas))
        await soak.for_(seconds, accidents=True)
        after = await asyncio.gather(*map(soak.held, replicas))
        print(f"{seconds:g} s: {dict(soak.came_of)}", *soak.wrong[:20], sep="\n")
        for one, other in zip(before, after, strict=True):
            print(f"before {one}\nafter  {other}")
        assert not soak.wrong
        assert soak.came_of["answered"] > seconds
        assert soak.came_of["late"] < 0.02 * soak.came_of["answered"]
        for one, other in zip(before, after, strict=True):
            assert other["descriptors"] <= one["descriptors"]
            assert other["processes"] == one["processes"] == 1
            assert other["threads"] <= THREADS
            assert other["memory"] < one["memory"] + ROOM
        for replica in replicas:
            assert "Traceback" not in replica.service.log
