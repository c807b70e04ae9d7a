"""If these fail, there are bytes by which a client takes the service from all others.

Everything is drawn by dice that are thrown the same each time; a failure names the throw.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import resource
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.generation.corpus import Mangled, mangled
from tests.service.raw import posted
from tests.service.running import Service, Start
from tests.service.wire import Conversation, conversation

MIB = 2**20
LIMIT = 30.0
"""Seconds in which a connection to `hasty` ends, whatever came: all its times, one after the other,
and as long again for a busy machine."""

AT_ONCE = 30  # fewer than `hasty` has room for


@contextmanager
def unharmed(service: Service, *, growth: float = 32 * MIB) -> Iterator[None]:
    """What happens meanwhile leaves the service as it was, and is no accident to it."""
    process = psutil.Process(service.process.pid)
    request = {"seed": 7, "steps": 3}
    image = httpx.post(f"{service.url}/v1/images", json=request).content
    before, memory = process.num_fds(), process.memory_info().rss
    yield
    deadline = time.monotonic() + LIMIT
    while process.num_fds() > before + 2 or service.metric("rows_running"):
        assert time.monotonic() < deadline, "connections, or rows, are left"
        time.sleep(0.2)
    assert process.memory_info().rss < memory + growth
    assert httpx.post(f"{service.url}/v1/images", json=request).content == image
    assert service.metric("upload_memory_bytes") == 0
    assert "Traceback" not in service.log


@pytest.mark.timeout(1800)
async def test_whatever_comes_is_answered_or_hung_up_on(hasty: Service, full: bool) -> None:
    """Each connection ends within its times, and no answer is a 5xx but those for what HTTP has and
    this service has not. What is right is answered in full, whatever its framing."""
    url = urlsplit(hasty.url)
    turns = iter(range(10_000 if full else 150))

    async def clients() -> None:
        for turn in turns:
            await converse(url.port or 0, turn)

    with unharmed(hasty):
        await asyncio.gather(*(clients() for _ in range(AT_ONCE)))


async def converse(port: int, turn: int) -> None:
    said = conversation(random.Random(turn))
    try:
        async with asyncio.timeout(LIMIT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                got = await _converse(said, reader, writer)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise AssertionError(f"{turn} was not ended: {said}") from None
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]
    unfit = {status for status in statuses if status >= 500} - {501, 505}
    assert not unfit, f"{turn}: {said}"
    if said.answers is not None:
        final = [status for status in statuses if status != 100]
        assert len(final) == said.answers, f"{turn}: {final} to {said}"
        assert set(final) <= {200, 400, 404}, f"{turn}: {final} to {said}"


async def _converse(
    said: Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes:
    """What was received."""
    reading = asyncio.create_task(_everything(reader))
    with suppress(ConnectionError):
        for piece in said.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)
        if said.ending == "closes its half":
            writer.write_eof()
        elif said.ending == "resets":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if said.ending in ("leaves", "resets"):
        reading.cancel()
        return b""
    return await reading


async def _everything(reader: asyncio.StreamReader) -> bytes:
    data = b""
    with suppress(ConnectionError):
        while more := await reader.read(65536):
            data += more
    return data


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_connections_end_within_their_times(start: Start, full: bool) -> None:
    """As many as this process may open; what they hold is free again, and others are served."""
    if not full:
        pytest.skip("takes minutes: TESSERA_TEST_FULL=1; test_connections.py has fewer")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(20_000, most - 500)
    times = {"KEEP_ALIVE": "40", "HEAD_TIMEOUT": "40", "BODY_TIMEOUT": "40"}
    begun = [
        b"",
        b"GET /livez HT",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        posted({"seed": 1})[:-3],
        posted({"seed": 1, "steps": 1}),
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"POST /",
        b"POST /v1/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: a",
    ]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        with start(**times, MAX_CONNECTIONS=str(count), MAX_ROWS_WAITING="20000") as service:
            service.await_ready()
            process = psutil.Process(service.process.pid)
            url = urlsplit(service.url)
            held = []
            for _ in range(2):
                with unharmed(service, growth=math.inf), ExitStack() as stack:
                    clients = []
                    for turn in range(count):
                        client = socket.create_connection((url.hostname, url.port or 0))
                        client.sendall(begun[turn % len(begun)])
                        clients.append(stack.enter_context(client))
                    assert httpx.get(f"{service.url}/livez", timeout=120).status_code == 200
                    at_once = len(process.net_connections())
                    held.append(process.memory_info().rss / MIB)
                    deadline = time.monotonic() + 120
                    for client in clients:
                        client.settimeout(max(0.1, deadline - time.monotonic()))
                        with suppress(ConnectionError):
                            while client.recv(65536):
                                pass
                print(f"{count} connections, {at_once} open at once: {held[-1]:.0f} MiB")
            assert held[1] < 1.1 * held[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, soft)


ROUTES = [
    ("transform", {"operation": "vary"}),
    ("transform", {"operation": "upscale"}),
    ("transform", {"operation": "inpaint", "prompt": "a"}),
    ("edits", {"prompt": "a"}),
    ("variations", {}),
]


@pytest.mark.timeout(1800)
def test_mangled_uploads_are_read_or_refused(service: Service, full: bool) -> None:
    """Files of every format, and forms around them; none is a 5xx, and memory does not grow."""
    count = 3000 if full else 120
    files = list(mangled(count, seed=3))
    with httpx.Client(base_url=f"{service.url}/v1/images", timeout=120) as http:

        def send(turn: int) -> int:
            dice = random.Random(turn)
            route, fields = dice.choice(ROUTES)
            return upload(http, dice, route, fields, files[turn]).status_code

        with ThreadPoolExecutor(4) as threads:
            warm = count // 5
            statuses = list(threads.map(send, range(warm)))
            with unharmed(service):
                statuses += threads.map(send, range(warm, count))
    assert set(statuses) <= {200, 400, 413}
    assert min(statuses.count(200), statuses.count(400)) > count / 20


def upload(
    http: httpx.Client, dice: random.Random, route: str, fields: dict[str, str], file: Mangled
) -> httpx.Response:
    """A form with the file, of which one in five is mangled too. Raises where the answer is 5xx."""
    sent = {"image": ("a", file.file)}
    if fields.get("operation") == "inpaint":
        sent["mask"] = ("b", file.file)
    request = http.build_request("POST", f"/{route}", data=fields | {"n": "1"}, files=sent)
    body = bytearray(request.read())
    if dice.random() < 0.2:
        for _ in range(dice.randint(1, 5)):
            body[dice.randrange(len(body))] = dice.randrange(256)
        del body[dice.choice([dice.randrange(len(body)), len(body)]) :]
    headers = {"Content-Type": request.headers["content-type"]}
    answer = http.post(f"/{route}", content=bytes(body), headers=headers)
    assert answer.status_code < 500, f"{file.name} to {route}: {answer.text}"
    return answer
