"""How long the service takes from its command to its first answers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.cli.console import UserError

PATIENCE = 600.0  # seconds until a start is given up
GLANCE = 0.05  # seconds between looks: what is measured has the cores
LISTENING = "listening on "


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds after the command."""

    alive: float  # until /livez answers
    ready: float  # until /readyz is 200: models loaded, warm and tested


def measure_start() -> Start:
    """Starts the service with the settings of this environment, on a free port, and stops it.

    Raises `UserError` where it does not become ready.
    """
    environment = os.environ | {"TESSERA_HOST": "127.0.0.1", "TESSERA_PORT": "0"}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            began = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve"],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            url = _await_address(process, log)
            with httpx.Client(base_url=url, timeout=PATIENCE) as client:
                alive = _await_ok(process, log, client, "/livez") - began
                ready = _await_ok(process, log, client, "/readyz") - began
        finally:
            process.terminate()
            process.wait()
    return Start(alive, ready)


def _await_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        _, found, rest = log.read_text(encoding="utf-8", errors="replace").partition(LISTENING)
        if found and ";" in rest:
            return rest.partition(";")[0]
        _check(process, log)
        time.sleep(GLANCE)
    raise UserError(f"the service does not listen after {PATIENCE:.0f} s")


def _await_ok(
    process: subprocess.Popen[bytes], log: Path, client: httpx.Client, path: str
) -> float:
    deadline = time.monotonic() + PATIENCE
    while (now := time.monotonic()) < deadline:
        if client.get(path).is_success:
            return now
        _check(process, log)
        time.sleep(GLANCE)
    raise UserError(f"{path} is not well after {PATIENCE:.0f} s")


def _check(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise UserError(f"the service ended: {lines[-1] if lines else 'it said nothing'}")
