"""One client's connection: HTTP/1.1 as h11 reads it, bounded in bytes and time in every state.

| state                           | bounded by                                                     |
| ------------------------------- | -------------------------------------------------------------- |
| opened, nothing sent            | ``head_timeout``; closed without a word                        |
| a head arrives                  | ``head_timeout`` (408) and `LARGEST_HEAD` bytes (431)          |
| a body arrives                  | `app.api.middleware` (408, 413); chunks' heads, trailers: 431; |
|                                 | `EVENTS_AT_ONCE` chunks, then others have their turn           |
| an answer is under way          | the engine's deadline; what comes meanwhile waits, unparsed    |
| an answer is not read           | ``write_timeout`` without `LEAST_READ` bytes, then aborted     |
| answered before the body's end  | `LINGER` seconds and `MOST_DISCARDED` bytes, then closed       |
| between two requests            | ``keep_alive``, whatever comes that begins no request          |
| as many as ``max_connections``  | the one that has been without a request for longest is closed  |

h11 never merges trailers into headers, reads a body whether or not the request offers an Upgrade,
and does not chunk an answer to HTTP/1.0. Nothing is switched to: an Upgrade is ignored (RFC 9110,
7.8). A client that sent all and closed its half gets its answer, see `Connection.eof_received`.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import h11
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from app.api.errors import ApiError
from app.exchange import Exchange

LARGEST_HEAD = 32 * 1024
"""Bytes of request line and headers, of trailers, and of what is sent ahead of an answer."""

LINGER = 5.0
"""Seconds for which an answer that ends the connection waits for the client to read it: closing at
once, with bytes unread, would destroy it (RFC 9112, 9.6)."""

MOST_DISCARDED = 16 * 2**20
"""Bytes that are read and dropped meanwhile."""

LEAST_READ = 64 * 1024
"""Bytes that a client takes in each ``write_timeout``, or all that there are."""

EVENTS_AT_ONCE = 64
"""Parts of a body that are read before others have their turn: a chunk may be of one byte."""

GRACE = 1.0
"""Seconds for an answer to a client that sent its end, where it cannot be asked if it is there."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of all connections of a server. ``most`` of them are open at once."""

    head_timeout: float  # seconds
    keep_alive: float
    write_timeout: float
    most: int


@dataclass(slots=True)
class Front:
    """What the connections of a server share."""

    bounds: Bounds
    refusal: Callable[[ApiError], Response]  # counted and logged
    leaving: Callable[[], bool]  # whether connections are not kept alive any longer
    idle: dict[Connection, None] = field(default_factory=dict)  # without a request, oldest first


class Connection(asyncio.Protocol):
    """Reads requests, one at a time, and has the application answer them."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        front: Front,
    ) -> None:
        if not config.loaded:
            config.load()
        self._app: ASGIApp = config.loaded_app
        self._asgi = {"version": config.asgi_version, "spec_version": "2.3"}
        self._app_state = app_state
        self._state = server_state
        self._loop = _loop or asyncio.get_event_loop()
        self._front = front
        self._http = h11.Connection(h11.SERVER, LARGEST_HEAD)
        self._exchange: Exchange | None = None  # the request that is being answered
        self._method = b""  # of the request that is read or answered
        self._in_request_line = True
        self._ahead = 0  # bytes that came while it was
        self._discarded = 0  # bytes that nobody wants
        self._reading = True
        self._unread = False  # whether the rest of what was received waits for its turn
        self._eof = False  # the client closed its half
        self._last = False  # the connection ends with this answer
        self._closing = False  # all is written; what still comes is dropped
        self._timer: asyncio.TimerHandle | None = None
        self._head_begun = False
        self._written = 0  # bytes in all
        self._taken = 0  # of them, when the client was last looked at
        self._watch: asyncio.TimerHandle | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    # What the transport calls ------------------------------------------------------------------

    def connection_made(  # type: ignore[override] # uvloop's transports have no base
        self, transport: asyncio.Transport
    ) -> None:
        self.transport = transport
        self._server, self._client = get_local_addr(transport), get_remote_addr(transport)
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        if len(self._state.connections) >= self._front.bounds.most:
            oldest = next(iter(self._front.idle), None)
            if oldest is None:  # each of them has a request
                self.abort()
                return
            # Now, not when it is lost: several may come before that.
            del self._front.idle[oldest]
            self._state.connections.discard(oldest)
            oldest.abort()
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._await_request(self._front.bounds.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._front.idle.pop(self, None)
        self._closing = True
        self._stop_timer()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._exchange is not None:
            self._exchange.disconnect()
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        if self._closing or self._http.their_state in _NOTHING_MORE:
            self._discard(len(data))
            return
        if self._exchange is not None:
            self._ahead += 0 if self._exchange.more_body else len(data)
        elif self._http.their_state is h11.IDLE:
            if not self._head_begun:
                data = data.lstrip(b"\r\n")  # RFC 9112, 2.2
                if not data:
                    return
                self._head_begun = True
                self._after(self._front.bounds.head_timeout, self._late_head)
            if self._in_request_line:
                if not data.isascii():
                    data = _encoded_line(data)
                self._in_request_line = b"\n" not in data
        self._http.receive_data(data)
        if not self._unread:
            self._advance()

    def eof_received(self) -> bool:
        """Whether to go on writing.

        A client that closed its half to say that it has sent all cannot be told from one that has
        gone, except by writing: to one that has gone that is an error. Where no answer has begun,
        "100 Continue" can be written, which clients skip (RFC 9110, 15.2). In the middle of an
        answer, and to HTTP/1.0, it cannot: such an answer has a second to end.
        """
        self._eof = True
        exchange = self._exchange
        if self._closing or exchange is None or exchange.more_body or self.transport.is_closing():
            return False
        if exchange.started or exchange.version == "1.0":
            self._after(GRACE, self.abort)
        else:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._after(GRACE / 4, self._probe)
        return True

    def pause_writing(self) -> None:
        self.writable.clear()
        self._watch_client()

    def resume_writing(self) -> None:
        self.writable.set()

    # What the server calls ---------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request is here in full and its answer is not yet gone in full."""
        if self._exchange is not None and not self._exchange.more_body:
            return True
        return self.transport.get_write_buffer_size() > 0

    def shutdown(self) -> None:
        """Closes the connection, after the answer if one is under way."""
        self._last = True
        if self._exchange is None:
            self._close()

    def abort(self) -> None:
        """Closes it at once. What is not sent yet is lost."""
        self.transport.abort()

    # Reading -----------------------------------------------------------------------------------

    def _advance(self) -> None:
        for _ in range(EVENTS_AT_ONCE):
            if self._closing or self._http.their_state in _NOTHING_MORE:
                return
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._not_http(error)
                return
            if event is h11.NEED_DATA:
                return
            if event is h11.PAUSED:  # a request that waits for the answer to the one before
                if self._ahead > LARGEST_HEAD:
                    self.pause_reading()
                return
            match event:
                case h11.Request():
                    self._begin(event)
                case h11.Data():
                    if self._exchange is None:
                        self._discard(len(event.data))
                    else:
                        self._exchange.feed(event.data)
                case h11.EndOfMessage():  # trailers are in it, and stay there
                    if self._exchange is None:
                        self._next()
                    else:
                        self._exchange.complete()
                case h11.ConnectionClosed():
                    self._close()
        self.pause_reading()
        self._unread = True
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Reads the rest of what was received."""
        if self._unread:
            self._unread = False
            self.resume_reading()
            self._advance()

    def _begin(self, request: h11.Request) -> None:
        """Hands a request to the application."""
        self._stop_timer()
        self._front.idle.pop(self, None)
        self._method = request.method
        headers = list(request.headers)
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > LARGEST_HEAD:
            self.refuse(_head_too_large())
            return
        version = request.http_version.decode("ascii")
        if version not in ("1.0", "1.1"):
            message = f"HTTP/{version} was asked for; this service reads HTTP/1.1"
            self.refuse(ApiError(505, message, code="http_version_not_supported"))
            return
        target = request.target
        if absolute := _ABSOLUTE.match(target):  # RFC 9112, 3.2.2
            target = target[absolute.end() :] or b"/"
            headers = [pair for pair in headers if pair[0] != b"host"]
            headers.append((b"host", absolute[1]))
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": self._asgi,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": request.method.decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "state": self._app_state.copy(),
        }
        self._ahead = 0
        self._exchange = Exchange(self, self._http, scope)
        # Each request has a context of its own: log lines are not those of the request before.
        task = self._loop.create_task(self._exchange.run(self._app), context=Context())
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    def _await_request(self, seconds: float) -> None:
        self._head_begun = False
        self._in_request_line = True
        self._method = b""
        self._front.idle[self] = None
        self._after(seconds, self._close)

    def _late_head(self) -> None:
        seconds = self._front.bounds.head_timeout
        message = f"request line and headers did not arrive within {seconds:g} seconds"
        self.refuse(ApiError(408, message, code="head_too_slow"))

    def _not_http(self, error: h11.RemoteProtocolError) -> None:
        if error.error_status_hint == 431:
            self.refuse(_head_too_large())
        elif error.error_status_hint == 501:
            message = f"{error}; send Content-Length, or Transfer-Encoding: chunked"
            self.refuse(ApiError(501, message, code="not_implemented"))
        else:
            self.refuse(ApiError(400, f"this is no HTTP/1.1: {error}", code="invalid_http"))

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > MOST_DISCARDED:
            self.abort()

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not (self._reading or self._unread or self.transport.is_closing()):
            self._reading = True
            self.transport.resume_reading()

    # Writing -----------------------------------------------------------------------------------

    def write(self, data: bytes | None) -> None:
        if data and not self.transport.is_closing():
            self._written += len(data)
            self.transport.write(data)

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Of an answer, as it is written."""
        given = [*headers, *self._state.default_headers]
        if self._last or self._front.leaving():
            given.append((b"connection", b"close"))
        head = h11.Response(status_code=status, headers=given, reason=_REASONS.get(status, b""))
        return self._http.send(head) or b""

    def refuse(self, error: ApiError) -> None:
        """Answers what is no request, or what the application left unanswered, and hangs up."""
        self._front.idle.pop(self, None)
        if self._exchange is not None:
            self._exchange.disconnect()
            self._exchange = None
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._last = True
            answer = self._front.refusal(error)
            whole = self.head(answer.status_code, answer.raw_headers)
            if self._method != b"HEAD":
                whole += self._http.send(h11.Data(data=bytes(answer.body))) or b""
            self.write(whole + (self._http.send(h11.EndOfMessage()) or b""))
        self._close()

    def answered(self) -> None:
        """An answer is written; the next request may come."""
        self._state.total_requests += 1
        self._exchange = None
        self._stop_timer()
        self.resume_reading()
        if self._last or self._http.our_state is not h11.DONE:
            self._close()
        elif self._http.their_state is h11.DONE:
            self._next()
        else:  # it did not wait for the whole body
            self._discarded = 0
            self._after(LINGER, self._close)

    def _next(self) -> None:
        pending = self._http.trailing_data[0]
        if pending:  # read as if it came now
            self._http = h11.Connection(h11.SERVER, LARGEST_HEAD)
        else:
            self._http.start_next_cycle()
        self._await_request(self._front.bounds.keep_alive)
        if pending:
            self.data_received(pending)
        if self._eof and not self.eof_received():
            self._close()

    def _close(self) -> None:
        """Ends the connection once all is written; waits for a client that is still sending."""
        if self._closing:
            return
        self._closing = True
        self._unread = False
        self._stop_timer()
        self._front.idle.pop(self, None)
        self._watch_client()
        idle = self._http.their_state in (h11.IDLE, h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
        if self._eof or self.transport.is_closing() or (idle and not self._http.trailing_data[0]):
            self.transport.close()
            return
        self._discarded = 0
        self.resume_reading()
        self.transport.write_eof()
        self._after(LINGER, self.transport.close)

    # Time --------------------------------------------------------------------------------------

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _probe(self) -> None:
        """Whether the client has gone, which the socket knows once something was written to it."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()
        elif self._exchange is not None and not self._exchange.started:
            self._after(GRACE / 4, self._probe)

    def _watch_client(self) -> None:
        """Aborts the connection where the client does not take what is written."""
        left = self.transport.get_write_buffer_size()
        if self._watch is None and left:
            self._taken = self._written - left
            self._watch = self._loop.call_later(
                self._front.bounds.write_timeout, self._look_at_client
            )

    def _look_at_client(self) -> None:
        self._watch = None
        left = self.transport.get_write_buffer_size()
        if left and self._written - left - self._taken < LEAST_READ:
            self.abort()
        else:
            self._watch_client()


_NOTHING_MORE = (h11.MUST_CLOSE, h11.ERROR)
"""States of a client that said that its request is the last one, or that sent no HTTP."""

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_ABSOLUTE = re.compile(rb"https?://([^/?]+)", re.IGNORECASE)
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")


def _encoded_line(data: bytes) -> bytes:
    """The first line with what is not ASCII percent-encoded, as an address has it."""
    line, newline, rest = data.partition(b"\n")
    return _BEYOND_ASCII.sub(lambda byte: f"%{ord(byte[0]):02X}".encode(), line) + newline + rest


def _head_too_large() -> ApiError:
    message = f"request line and headers, or trailers, are larger than {LARGEST_HEAD} bytes"
    return ApiError(431, message, code="head_too_large")
