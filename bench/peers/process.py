"""A system as processes of its own: started, awaited, and ended whatever happens."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import psutil

from app.cli.console import UserError
from bench.load import LoadRequest
from bench.peers.drawing import PeerSettings
from bench.peers.systems import System, environment

START = 300.0  # seconds until a start is given up
LEAVE = 30.0  # seconds to end in order
GLANCE = 0.25  # seconds between looks
TOLD = 10  # last lines of its log, where a system has failed
MARK = "PEER_MARK"


@contextmanager
def running(system: System, settings: PeerSettings, first: LoadRequest) -> Iterator[str]:
    """Its address, once it has answered ``first``. Raises `UserError` where it never does."""
    mark = secrets.token_hex(8)
    placed = replace(settings, port=free_port())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *system.arguments],
                cwd=folder,  # where there is no developer's .env
                env=environment(placed, folder) | {MARK: mark},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us alone, who then end it
            )
        try:
            url = f"http://127.0.0.1:{placed.port}"
            _await_answer(system, first, process, url, log)
            yield url
        finally:
            _end(process, mark)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def members(session: int, mark: str) -> list[psutil.Process]:
    """The processes of a session, and those that left it with their mark.

    One alone does not find them all: some start sessions of their own, some write their title over
    their environment.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended, or is somebody else's
            if process.status() != psutil.STATUS_ZOMBIE and (
                os.getsid(process.pid) == session or process.environ().get(MARK) == mark
            ):
                found.append(process)
    return found


def _await_answer(
    system: System, first: LoadRequest, process: subprocess.Popen[bytes], url: str, log: Path
) -> None:
    deadline = time.monotonic() + START
    said = "nothing"
    with httpx.Client(base_url=url, timeout=START) as client:
        while time.monotonic() < deadline:
            if (status := process.poll()) is not None:
                raise UserError(f"{system.title} ended with status {status}{_end_of(log)}")
            try:
                answer = client.post(system.path, json=system.body(first))
            except httpx.TransportError as error:
                said = str(error)
            else:
                if answer.is_success:
                    return
                said = f"{answer.status_code} {answer.text}"
            time.sleep(GLANCE)
    raise UserError(f"{system.title} answers {said} after {START:.0f} s{_end_of(log)}")


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TOLD:]
    return "; its log ends" + "".join(f"\n  {line}" for line in lines) if lines else ""


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Asks the first process to leave; what is then left of them is killed."""
    try:
        process.terminate()
        process.wait(LEAVE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        deadline = time.monotonic() + LEAVE
        while (left := members(process.pid, mark)) and time.monotonic() < deadline:
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            time.sleep(GLANCE)
        process.wait()
