"""If these fail, one careless or malicious client takes the service from all others."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.service.running import Service, Start

MIB = 2**20


@pytest.fixture(scope="module")
def address(service: Service) -> tuple[str, int]:
    url = urlsplit(service.url)
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


@pytest.fixture
def flat_memory(service: Service) -> Iterator[None]:
    """What the test does must not make the API process grow."""
    httpx.post(f"{service.url}/v1/images", json={"n": 10})  # what grows once has grown
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    yield
    grown = process.memory_info().rss - before
    assert grown < 24 * MIB, f"grown by {grown / MIB:.0f} MiB"
    others_are_served(service)


def others_are_served(service: Service) -> None:
    for _ in range(5):
        began = time.monotonic()
        assert httpx.get(f"{service.url}/livez").status_code == 200
        assert time.monotonic() - began < 1
    assert httpx.post(f"{service.url}/v1/images", json={"seed": 7}).status_code == 200


def received(client: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    client.settimeout(10)
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := client.recv(65536):
            data += more
    return data


HEAD = b"POST /v1/images HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.mark.usefixtures("flat_memory")
@pytest.mark.parametrize("framing", [b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"])
def test_a_gigabyte_is_refused_before_it_is_sent(address: tuple[str, int], framing: bytes) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with socket.create_connection(address) as client:
        client.sendall(HEAD + framing + b"\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1024 * MIB:
                client.sendall(chunk)
                sent += 65536
        assert sent < 64 * MIB
        answer = received(client)
    # A connection that is closed while data is under way may lose its answer: that is TCP.
    assert not answer or answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.usefixtures("flat_memory")
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_million_brackets_are_no_request(service: Service, opening: bytes) -> None:
    body = opening * (1_000_000 // len(opening))
    answer = httpx.post(
        f"{service.url}/v1/images", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.usefixtures("flat_memory")
@pytest.mark.parametrize(
    "flood",
    [b"X-Flood: " + b"a" * 1000 + b"\r\n", b"a" * 1000],
    ids=["many headers", "one endless header"],
)
def test_floods_of_headers_are_cut_off(address: tuple[str, int], flood: bytes) -> None:
    with socket.create_connection(address) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-First: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * MIB:
                client.sendall(flood)
                sent += len(flood)
        assert sent < 32 * MIB  # what is read and dropped, and what sockets hold
        answer = received(client)
    assert not answer or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


@pytest.mark.usefixtures("flat_memory")
def test_chunks_of_one_byte_hold_nobody_up(service: Service, address: tuple[str, int]) -> None:
    body = b"1\r\n \r\n" * 20_000 + b"0\r\n\r\n"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address)) for _ in range(20)]
        for client in clients:
            client.sendall(HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        others_are_served(service)
        for client in clients:
            client.settimeout(60)
            assert client.recv(11) == b"HTTP/1.1 40"  # no JSON, or too late


def test_requests_sent_by_half_are_ended(start: Start) -> None:
    with start(BODY_TIMEOUT="1") as service:
        service.await_ready()
        url = urlsplit(service.url)
        halves = [
            HEAD + b"Content-Length: 100\r\n\r\n{",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        ]
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection((url.hostname or "", url.port or 0)))
                for _ in range(100)
            ]
            for index, client in enumerate(clients):
                client.sendall(halves[index % 2])
            others_are_served(service)
            for client in clients:
                assert received(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("flat_memory")
def test_heads_sent_by_half_and_streams_left_unread_hold_nobody_up(
    service: Service, address: tuple[str, int]
) -> None:
    body = b'{"n": 10, "steps": 100, "previews": true, "size": 256}'
    stream = b"Accept: text/event-stream\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with contextlib.ExitStack() as stack:
        for index in range(40):
            client = stack.enter_context(socket.create_connection(address))
            if index < 5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(HEAD + stream)
            else:
                client.sendall(HEAD[:40])
        others_are_served(service)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /v1/images/\xff.png HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /v1/images/%ff.png HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        HEAD + b'Connection: close\r\nContent-Length: 3\r\n\r\n"\xff"',
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    ],
)
def test_what_is_no_http_or_no_utf8_is_a_client_error(
    address: tuple[str, int], request_bytes: bytes
) -> None:
    with socket.create_connection(address) as client:
        client.sendall(request_bytes)
        assert received(client).startswith(b"HTTP/1.1 4")
