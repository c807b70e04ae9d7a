"""HTTP/1.1 connections with a bounded head: uvicorn's fast parser bounds neither bytes nor time."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.errors import ApiError

LARGEST_HEAD = 32 * 1024
"""Bytes of request line and headers."""

SLOWEST_HEAD = 20.0
"""Seconds in which they must arrive."""


class Connection(HttpToolsProtocol):
    """Answers 431 to a head that is too large, 408 to one that does not come, and hangs up."""

    _head = 0  # bytes since the last request was complete
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > LARGEST_HEAD:
            message = f"request line and headers are larger than {LARGEST_HEAD} bytes"
            self._refuse(ApiError(431, message, code="head_too_large"))

    def on_message_begin(self) -> None:
        self._in_head = True
        if self._timer is None:
            self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_here()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(SLOWEST_HEAD, self._late)

    def _head_is_here(self) -> None:
        self._head = 0
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if not self._head:  # opened in advance, as browsers do
            self.transport.close()
            return
        message = f"request line and headers did not arrive within {SLOWEST_HEAD:g} seconds"
        self._refuse(ApiError(408, message, code="head_too_slow"))

    def _refuse(self, error: ApiError) -> None:
        if self.transport.is_closing():
            return
        body = error.body.model_dump_json().encode()
        phrase = HTTPStatus(error.status_code).phrase
        head = (
            f"HTTP/1.1 {error.status_code} {phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
