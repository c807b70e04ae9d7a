"""A real server: a process of its own, uvicorn, a worker, the tiny checkpoint; and its clients."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from tests.metrics import metric_in

PATIENCE = 60.0  # seconds; a loaded machine imports torch slowly


@dataclass
class Service:
    """A running server. ``log`` is what it has written so far."""

    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        """Where it listens, as it says itself."""
        return self.await_log(r"listening on (http://\S+?);")

    def await_log(self, pattern: str, patience: float = PATIENCE) -> str:
        """The pattern's first group (or match), once it is in the log."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.log):
                return found[found.lastindex or 0]
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended before {pattern!r} was said:\n{self.log}")
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} was never said:\n{self.log}")

    def await_ready(self, patience: float = PATIENCE) -> Service:
        self.await_log(r"ready after [\d.]+ s: ", patience)
        assert httpx.get(f"{self.url}/readyz").status_code == 200
        return self

    def client(self) -> httpx.AsyncClient:
        """Of many requests at once."""
        limits = httpx.Limits(max_connections=500)
        return httpx.AsyncClient(base_url=self.url, timeout=600, limits=limits)

    def metric(self, name: str) -> float:
        """See `metric_in`."""
        return metric_in(httpx.get(f"{self.url}/metrics").text, name)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """The exit code, once the process has ended."""
        return self.process.wait(PATIENCE)


Start = Callable[..., AbstractContextManager[Service]]
"""``start(NAME="value")`` is a server with settings of its own."""


def official(service: Service, **options: Any) -> openai.OpenAI:
    """The OpenAI client, unchanged but for its base_url; it tries once, unless set otherwise."""
    given: dict[str, Any] = {"api_key": "unused", "max_retries": 0, "timeout": 60, **options}
    return openai.OpenAI(base_url=f"{service.url}/v1", **given)


@contextmanager
def running(
    folder: Path,
    log_file: Path,
    command: tuple[str, ...] = ("app.cli", "serve"),
    /,
    **settings: str,
) -> Iterator[Service]:
    """Starts a server on a free port; ``settings`` are names without TESSERA_ and values.

    ``command`` is a module or a program, and what it is told.
    """
    given = {
        "PORT": "0",
        "MODELS": str(folder),
        "DEVICES": "cpu",
        "THREADS": "1",
        "DTYPE": "fp32",
        **settings,
    }
    environment = os.environ | {f"TESSERA_{name}": value for name, value in given.items()}
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command if Path(command[0]).is_absolute() else [sys.executable, "-m", *command],
            cwd=log_file.parent,  # where there is no developer's .env
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    service = Service(process, log_file)
    try:
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
