"""Bytes on a socket: for what no client library would send."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image

from tests.service.running import Service

PATIENCE = 30.0  # seconds


@dataclass
class Answer:
    """One answer as it was sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """What it says is wrong, in the shape of all errors, with the headers of all answers."""
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"]
        assert self.headers["x-content-type-options"] == "nosniff"
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


def connect(service: Service, *, window: int | None = None) -> socket.socket:
    """A connection. ``window`` bytes are taken ahead of `recv`, about."""
    url = urlsplit(service.url)
    client = socket.socket()
    if window:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(PATIENCE)
    client.connect((url.hostname, url.port))
    return client


def received(client: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := client.recv(65536):
            data += more
    return data


def answer(client: socket.socket, *, head: bool = False) -> Answer:
    """The next answer, of a known length; to HEAD it has no body."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(1)
        assert more, f"hung up after {data!r}"
        data += more
    lines = data.decode("latin-1").split("\r\n")
    if " 100 " in lines[0]:
        return answer(client, head=head)
    headers = dict(line.lower().split(": ", 1) for line in lines[1:-2])
    length = 0 if head else int(headers.get("content-length", 0))
    body = b""
    while len(body) < length:
        more = client.recv(length - len(body))
        assert more, f"hung up after {data!r}"
        body += more
    found = re.match(r"HTTP/1\.1 (\d{3}) ", lines[0])
    assert found, lines[0]
    return Answer(int(found[1]), headers, body)


def asked(service: Service, request: bytes) -> Answer:
    """The answer to a request on a connection of its own."""
    with connect(service) as client:
        client.sendall(request)
        return answer(client)


def seconds_until_closed(client: socket.socket, dribble: bytes = b"") -> float:
    """How long the server keeps it open, while something comes every tenth of a second."""
    began = time.monotonic()
    client.settimeout(0.1)
    while time.monotonic() - began < PATIENCE:
        try:
            if dribble:
                client.sendall(dribble)
            if not client.recv(65536):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - began


def posted(body: dict[str, Any]) -> bytes:
    """A request for an image."""
    data = json.dumps(body).encode()
    head = (
        b"POST /v1/images HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    return head % len(data) + data


def large_edit(accept: bytes) -> bytes:
    """A request whose answer is larger than what the kernel takes of it unread: some 20 MB."""
    side = 1200
    image = Image.effect_noise((side, side), 90).convert("RGB")
    mask = Image.new("L", (side, side))
    mask.paste(255, (0, 0, side // 8, side // 8))
    form = httpx.Request(
        "POST",
        "http://a",
        data={"operation": "inpaint", "n": "4", "steps": "1", "prompt": "a"},
        files={"image": ("image.png", _png(image)), "mask": ("mask.png", _png(mask))},
    )
    body = form.read()
    head = (
        b"POST /v1/images/transform HTTP/1.1\r\nHost: a\r\nAccept: %s\r\nContent-Type: %s\r\n"
        b"Content-Length: %d\r\n\r\n"
    )
    return head % (accept, form.headers["content-type"].encode(), len(body)) + body


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
