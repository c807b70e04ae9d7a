"""What may come on a connection, drawn by dice: requests, framed well or not, whole or mangled."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"CONNECT", b"get", b"G\x01T", b""]
TARGETS = [
    *(
        b"/livez",
        b"/readyz",
        b"/v1/models",
        b"/v1/images",
        b"/v1/images/7.png?steps=1",
        b"/nothing",
    ),
    *(b"/v1/images/transform", b"/v1/images/edits", b"/v1/images/generations", b"/openapi.json"),
    *(b"http://a/livez", b"//livez", b"/../livez", b"/%00", b"/%ff", b"/\xe7\x8c\xab", b"/ a"),
    *(b"*", b"a:443", b"http://", b"", b"/" + b"a" * 40_000),
]
VERSIONS = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.1 ", b"", b"HTTPS"]
FRAMINGS = [
    *(b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: +5", b"Content-Length: -1"),
    *(b"Content-Length: 5, 5", b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 0x5"),
    *(b"Content-Length: 99999999999999999999", b"Content-Length: 700000", b"Content-Length:"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: identity"),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked"),
    *(
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
    ),
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
]
HEADERS = [
    *(b"Host: a", b"Host: a", b"Host: a", b"Host:", b"Host: b c", b"Host: [::1"),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade", b"Connection: ,"),
    *(b"Upgrade: h2c", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    *(b"Sec-WebSocket-Version: 13", b"HTTP2-Settings: AAMAAABkAAQ", b"TE: trailers"),
    *(b"Expect: 100-continue", b"Expect: the unexpected", b"Trailer: Host"),
    *(b"Accept: text/event-stream", b"Accept: application/json", b"Accept: */*;q=x", b"Accept:"),
    *(b"Content-Type: application/json", b"Content-Type: application/json", b"Content-Type: \xff"),
    *(b"Content-Type: multipart/form-data; boundary=b", b"Content-Type: multipart/form-data"),
    *(
        b"Content-Encoding: gzip",
        b"X-Request-Id: \x00",
        b"X: \xe9",
        b" folded",
        b"no colon",
        b": x",
    ),
    *(b"Range: bytes=0-1", b"If-None-Match: *", b"Authorization: Bearer", b"Cookie: a=b"),
    *(b"X-Long: " + b"a" * 33_000, b"\r\n".join(b"X-%d: a" % k for k in range(300))),
    *(b"X-Forwarded-For: a, b", b"X-Forwarded-Proto: gopher", b"Origin: null", b"\x00\x00"),
]
BODIES = [
    *(
        b"",
        b"hello",
        b'{"seed": 7}',
        b'{"seed": 7, "steps": 1}',
        b"{" * 2000,
        b"\xff" * 100,
        b"null",
    ),
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx\r\n--b--\r\n',
]
CHUNKS = [
    *(b"5\r\nhello\r\n", b"b\r\n" + b'{"seed": 7}' + b"\r\n", b"5;a=b\r\nhello\r\n", b"5\nhello\n"),
    *(
        b"05\r\nhello\r\n",
        b"5\r\nhel",
        b"5\r\nhello!\r\n",
        b"zz\r\n",
        b"-5\r\nhello\r\n",
        b"5 \r\n",
    ),
    *(
        b"ffffffffffffffff\r\n",
        b"f" * 100 + b"\r\n",
        b"1;" + b"a" * 40_000,
        b"100000\r\n" + b" " * 9000,
    ),
    *(b"1\r\n \r\n" * 500, b"\r\n"),
]
ENDS = [
    *(
        b"0\r\n\r\n",
        b"0\r\n\r\n",
        b"0\r\n\r\n",
        b"0\r\n",
        b"",
        b"0;a\r\n\r\n",
        b"00\r\n\r\n",
        b"0\n\n",
    ),
    *(
        b"0\r\nX-T: a\r\n\r\n",
        b"0\r\nHost: b\r\nContent-Length: 9\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
    ),
    *(b"0\r\nX-T: " + b"a" * 40_000, b"0\r\n" + b"X-T: a\r\n" * 5000 + b"\r\n"),
]

Ending = Literal["waits", "closes its half", "leaves", "resets"]


@dataclass(frozen=True)
class Conversation:
    """What a client sends, in pieces, and what it does then.

    Where ``answers`` is known, each of its requests is right, and so many answers are due.
    """

    pieces: list[bytes]
    ending: Ending
    answers: int | None = None


def conversation(dice: random.Random) -> Conversation:
    """Any. A fifth of them have nothing wrong."""
    count = dice.choice([1, 1, 1, 2, 3, 8])
    right = dice.random() < 0.2
    data = b"".join(_right(dice) if right else _any(dice) for _ in range(count))
    if not right and dice.random() < 0.4:
        data = _mangled(dice, data)
    pieces = _in_pieces(dice, data)
    if right:
        return Conversation(pieces, dice.choice(["waits", "closes its half"]), answers=count)
    ending: Ending = dice.choice(
        ["waits", "closes its half", "closes its half", "leaves", "resets"]
    )
    return Conversation(pieces, ending)


def _right(dice: random.Random) -> bytes:
    body = dice.choice([b'{"seed": 7, "steps": 1}', b'{"seed": 8, "steps": 2}', b"hello"])
    headers = [b"Host: a", b"Content-Type: application/json"]
    headers += dice.sample([b"Upgrade: h2c\r\nConnection: Upgrade", b"TE: trailers", b"X: a"], 2)
    line = dice.choice(
        [b"GET /livez", b"GET /v1/models", b"POST /v1/images", b"POST /v1/images", b"POST /nothing"]
    )
    if line.startswith(b"GET"):
        body = b""
    elif dice.random() < 0.5:
        at = dice.randrange(1, len(body))
        parts = (body[:at], body[at:])
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        body += dice.choice([b"0\r\n\r\n", b"0\r\nAccept: text/event-stream\r\nHost: b\r\n\r\n"])
        headers.append(b"Transfer-Encoding: chunked")
    else:
        headers.append(b"Content-Length: %d" % len(body))
    dice.shuffle(headers)
    return line + b" HTTP/1.1\r\n" + b"\r\n".join(headers) + b"\r\n\r\n" + body


def _any(dice: random.Random) -> bytes:
    line = b" ".join(map(dice.choice, (METHODS[: dice.choice([3, 9])], TARGETS, VERSIONS)))
    headers = dice.choices(HEADERS, k=dice.randint(0, 6))
    headers += [b"Host: a"] * (dice.random() < 0.7)
    body = b""
    if dice.random() < 0.7:
        framing = dice.choice(FRAMINGS)
        headers.append(framing)
        if b"hunked" in framing:
            body = b"".join(dice.choices(CHUNKS, k=dice.randint(0, 4))) + dice.choice(ENDS)
        else:
            body = dice.choice(BODIES)
    dice.shuffle(headers)
    newline = dice.choice([b"\r\n"] * 8 + [b"\n", b"\r"])
    return newline.join([line, *headers, b"", body])


def _mangled(dice: random.Random, data: bytes) -> bytes:
    mangled = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(mangled) + 1)
        match dice.randrange(4):
            case 0:
                mangled[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del mangled[at : at + dice.randint(1, 40)]
            case 2:
                mangled[at:at] = dice.randbytes(dice.randint(1, 40))
            case _:
                mangled[at:at] = mangled[dice.randrange(len(mangled) + 1) :][:200]
    return bytes(mangled)


def _in_pieces(dice: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(dice.sample(range(len(data) + 1), k=min(len(data), dice.choice([0, 0, 1, 3, 6]))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
