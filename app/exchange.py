"""A request and its answer, as the ASGI application sees them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import h11
from starlette.types import ASGIApp, Message, Scope

from app.api.errors import ApiError

if TYPE_CHECKING:
    from app.connection import Connection

LARGEST_WAITING = 64 * 1024
"""Bytes of a body that wait for the application; more are not read from the socket."""

logger = logging.getLogger("tessera")


class Exchange:
    """One on its connection; the next one comes after it."""

    def __init__(self, connection: Connection, http: h11.Connection, scope: Scope) -> None:
        self._connection = connection
        self._http = http
        self._scope = scope
        self._body = bytearray()
        self._changed = asyncio.Event()
        self._gone = False
        self._ended = False  # the last byte of the answer is written
        self._unwritten = b""  # its head, until there is more
        self.more_body = True
        self.started = False

    @property
    def version(self) -> str:
        version: str = self._scope["http_version"]
        return version

    # From the connection.

    def feed(self, data: bytes) -> None:
        if self._ended:
            return
        self._body += data
        if len(self._body) > LARGEST_WAITING:
            self._connection.pause_reading()
        self._changed.set()

    def complete(self) -> None:
        self.more_body = False
        self._changed.set()

    def disconnect(self) -> None:
        self._gone = True
        self._changed.set()

    # To the application.

    async def run(self, app: ASGIApp) -> None:
        """Never raises: what the application leaves unanswered is answered here."""
        error: ApiError | None = None
        try:
            await app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:  # by the server, which does not wait any longer
            message = "The service stopped before the answer was finished."
            error = ApiError(503, message, code="draining", headers={"Retry-After": "1"})
        except Exception:
            logger.exception("the application failed")
            error = ApiError(500, "the service failed; the log says why", code="internal_error")
        if self._gone or self._ended:
            return
        if self.started:  # a length or an end was promised: the client must see that it is missing
            self._connection.abort()
        else:
            missing = ApiError(500, "the service gave no answer", code="internal_error")
            self._connection.refuse(error or missing)

    async def receive(self) -> Message:
        if not (self._gone or self._ended):
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                self._connection.write(self._http.send(go_on))
            await self._changed.wait()
            self._changed.clear()
        if self._gone or self._ended:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        if self.more_body:
            self._connection.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def _write(self, data: bytes) -> None:
        """With the head, if that is not written yet: a process that is killed has then written all
        of an answer or none of it, and a balancer can ask another one."""
        self._connection.write(self._unwritten + data)
        self._unwritten = b""

    async def send(self, message: Message) -> None:
        """Returns once the client has taken nearly all of it: until then it is in memory."""
        if self._gone:
            return
        if not self.started:
            assert message["type"] == "http.response.start"
            self.started = True
            headers = message.get("headers", [])
            self._unwritten = self._connection.head(message["status"], headers)
            if not any(name == b"content-length" for name, _ in headers):
                self._write(b"")  # a stream, whose first part may be long in coming
            return
        assert message["type"] == "http.response.body"
        assert not self._ended
        body, data = message.get("body", b""), b""
        if body and self._scope["method"] != "HEAD":
            data = self._http.send(h11.Data(data=body)) or b""
        if not message.get("more_body", False):
            data += self._http.send(h11.EndOfMessage()) or b""
            self._ended = True
            self._changed.set()
        self._write(data)
        if not self._connection.writable.is_set():
            await self._connection.writable.wait()
        if self._ended and not self._gone:
            self._connection.answered()
