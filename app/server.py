"""The server process: one port, one event loop, one engine, and a way out that loses nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from http import HTTPStatus
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import logs
from app.api.deps import Services
from app.api.errors import ApiError
from app.main import create_app
from app.settings import Settings
from model.checkpoint import CheckpointError

READING_TIME = 5
"""Seconds that clients have to read answers once all work is done."""

logger = logging.getLogger("tessera")


def serve(settings: Settings) -> int:
    """Serves until told to stop.

    Returns the exit code: 0 after a drain, 1 where the service could not start, lost its engine,
    or was made to leave before accepted work was finished. The reason is one line of the log.
    """
    began = time.monotonic()
    logs.configure(settings.log_format, settings.log_level)
    for name in Settings.unknown():
        logger.warning("%s is no setting of Tessera", name)
    try:
        listener = _listen(settings.host, settings.port)
        with listener:
            app = create_app(settings)
            server = Server(_config(app, settings), app.state.services, began)
            server.run(sockets=[listener])
    except (StartError, CheckpointError, ValueError) as error:
        logger.critical("%s", error)
        return 1
    return server.exit_code


class StartError(Exception):
    """Why the service cannot start, in a line."""


class Server(uvicorn.Server):
    """Takes the first SIGTERM or SIGINT as leave to finish, the second as an order to go.

    From the first on, /readyz is 503. After ``drain_delay``, in which balancers notice, new work
    is refused; the port stays open until accepted work is finished or ``shutdown_timeout`` is
    over. The process ends, non-zero, where the engine fails.
    """

    def __init__(self, config: uvicorn.Config, services: Services, began: float) -> None:
        super().__init__(config)
        self._began = began
        self.exit_code = 0
        self._services = services
        self._signals = 0
        self._leaving: asyncio.Task[None] | None = None
        self._said_ready = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Runs between any two instructions of the main thread: it only takes note.
        self._signals += 1
        if self._signals > 1:
            self.exit_code = 1
            self.should_exit = self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logger.info("listening on http://%s:%d; the models are loading", shown, port)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        engine = self._services.engine
        if engine.state == "failed" and not self.should_exit:
            logger.critical("%s", engine.failure)
            self.exit_code = 1
            self.should_exit = True
        if engine.state == "ready" and not self._said_ready:
            self._said_ready = True
            took = time.monotonic() - self._began
            logger.info("ready after %.1f s: %s", took, ", ".join(engine.models))
        if self._signals and self._leaving is None:
            self._services.leaving = True
            self._leaving = asyncio.create_task(self._leave())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        await super().shutdown(sockets)
        if self.force_exit:
            await self._services.engine.stop()  # uvicorn leaves the lifespan out then

    async def _leave(self) -> None:
        settings = self._services.settings
        logger.info("leaving: no new work in %g s", settings.drain_delay)
        await asyncio.sleep(settings.drain_delay)
        if not await self._services.engine.drain(settings.shutdown_timeout):
            logger.error("work was unfinished after %g s", settings.shutdown_timeout)
            self.exit_code = 1
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} on {host} is taken; choose another with TESSERA_PORT"
        else:
            reason = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise StartError(reason) from error


def _config(app: object, settings: Settings) -> uvicorn.Config:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=READING_TIME,
    )
    if config.workers > 1:
        raise StartError(
            f"{config.workers} uvicorn workers were asked for (WEB_CONCURRENCY); Tessera has one, "
            "and a process for each device: see TESSERA_DEVICES"
        )
    return config


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
