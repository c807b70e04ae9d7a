"""The server process: one port, one event loop, one engine, and a way out that loses nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import socket
import time
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from app import logs
from app.api.deps import Services
from app.api.request_log import refusal
from app.connection import Bounds, Connection, Front
from app.main import create_app
from app.memory import return_freed_memory
from app.settings import Settings
from model.checkpoint import CheckpointError

READING_TIME = 5
"""Seconds that clients have to read what they are told once no more work is done."""

logger = logging.getLogger("tessera")


def serve(settings: Settings) -> int:
    """Serves until told to stop.

    Returns the exit code: 0 after a drain, 1 where the service could not start, lost its engine,
    or was made to leave before accepted work was finished. The reason is one line of the log.
    """
    began = time.monotonic()
    logs.configure(settings.log_format, settings.log_level)
    return_freed_memory()
    wrong = settings.without_effect()
    for line in wrong:
        logger.critical("%s", line)
    if wrong:
        return 1
    for line in settings.open_doors():
        logger.warning("%s", line)
    try:
        listener = listen(settings.host, settings.port)
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
    is refused; the port stays open until the last byte of accepted work is sent, or
    ``shutdown_timeout`` is over. The process ends, non-zero, where the engine fails.

    SIGHUP has the models loaded again whose files have changed; that which comes because the
    terminal has gone is as SIGTERM.
    """

    def __init__(self, config: uvicorn.Config, services: Services, began: float) -> None:
        super().__init__(config)
        self._began = began
        self.exit_code = 0
        self._services = services
        self._signals = 0
        self._leaving: asyncio.Task[None] | None = None
        self._said_ready = False
        self._at_terminal = _terminal_is_there()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Runs between any two instructions of the main thread: it only takes note.
        self._signals += 1
        if self._signals > 1:
            self.exit_code = 1
            self.should_exit = self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)
        host, port = (sockets or [])[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logger.info("listening on http://%s:%d; the models are loading", shown, port)

    def _hang_up(self) -> None:
        if self._at_terminal and not _terminal_is_there():
            self.handle_exit(signal.SIGHUP, None)
        else:
            self._services.engines.request_reload()

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
            await self._services.stop()  # uvicorn leaves the lifespan out then

    async def _leave(self) -> None:
        settings = self._services.settings
        logger.info("leaving: no new work in %g s", settings.drain_delay)
        await asyncio.sleep(settings.drain_delay)
        end = time.monotonic() + settings.shutdown_timeout
        drained = await self._services.engines.drain(settings.shutdown_timeout)
        if not (drained and await self._all_sent(end)):
            logger.error("work was unfinished after %g s", settings.shutdown_timeout)
            self.exit_code = 1
            await self._services.stop()  # answers and streams end in words
        self.should_exit = True

    async def _all_sent(self, end: float) -> bool:
        """Whether all that was accepted is answered by then, to the last byte."""
        connections = cast("set[Connection]", self.server_state.connections)
        waiting = set(connections)
        while waiting := {each for each in waiting & connections if each.busy}:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)
        return True


def _terminal_is_there() -> bool:
    """Whether a terminal controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def listen(host: str, port: int) -> socket.socket:
    """A socket to take connections on; "::" stands for IPv4 too. Raises `StartError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host in ("::", "::0") and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} on {host} is taken; choose another with TESSERA_PORT"
        else:
            reason = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise StartError(reason) from error


RESERVED = 200
"""File descriptors that are not for connections: workers, models, a new one where one ended."""


def _descriptors(wanted: int) -> int:
    """So many connections, or as many as the process may have descriptors for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + RESERVED:
        able = hard if hard != resource.RLIM_INFINITY else wanted + RESERVED
        soft = max(soft, min(able, wanted + RESERVED))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < wanted + RESERVED:
            wanted = max(RESERVED, soft - RESERVED)
            logger.warning("%d descriptors are allowed: %d connections at most", soft, wanted)
    return wanted


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    services: Services = app.state.services
    bounds = Bounds(
        head_timeout=settings.head_timeout,
        keep_alive=settings.keep_alive,
        write_timeout=settings.write_timeout,
        most=_descriptors(settings.max_connections),
    )
    front = Front(bounds, partial(refusal, services.metrics), lambda: services.leaving)
    config = uvicorn.Config(
        app,
        http=partial(Connection, front=front),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=READING_TIME,
    )
    if config.workers > 1:
        raise StartError(
            f"{config.workers} uvicorn workers were asked for (WEB_CONCURRENCY); Tessera has one, "
            "and a process for each device: see TESSERA_DEVICES"
        )
    return config
