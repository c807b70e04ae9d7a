"""What is measured, Tessera and its peers: as data, and as processes that are started and ended."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx
import psutil

from app.cli.console import UserError
from bench.load import LoadRequest
from bench.measure import ROOT
from bench.peers.drawing import REQUEST_TIMEOUT, PeerSettings

PREFIXES = ("TESSERA_", "PEER_", "BENTOML_", "RAY_")
"""What such variables of the user's environment say must not change what is measured."""


@dataclass(frozen=True, slots=True)
class System:
    """One way to serve the model."""

    name: str  # for --only
    title: str
    package: str  # that must be installed
    arguments: tuple[str, ...]  # of Python
    path: str = "/"  # that is posted to
    body: Callable[[LoadRequest], object] = asdict

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    @property
    def version(self) -> str:
        """Of the package, where it has one of its own."""
        return importlib.metadata.version(self.package) if self.package != "app" else ""


def _by_picture(request: LoadRequest) -> object:
    """For a batched method, which takes a list of like things."""
    return {
        "pictures": [asdict(replace(request, seed=request.seed + k, n=1)) for k in range(request.n)]
    }


SYSTEMS = (
    System("tessera", "Tessera", "app", ("-m", "app.cli", "serve"), "/v1/images"),
    System("fastapi", "FastAPI", "fastapi", ("-m", "bench.peers.fastapi_peer")),
    System("litserve", "LitServe", "litserve", ("-m", "bench.peers.litserve_peer"), "/predict"),
    System(
        "bentoml",
        "BentoML",
        "bentoml",
        ("-m", "bentoml", "serve", "bench.peers.bentoml_peer:Pictures"),
        body=_by_picture,
    ),
    System("ray", "Ray Serve", "ray", ("-m", "bench.peers.ray_peer")),
)


def environment(settings: PeerSettings, folder: str) -> dict[str, str]:
    """The same for all systems: each reads what is meant for it, and OpenMP's settings.

    ``folder`` takes what they leave behind.
    """
    kept = {name: text for name, text in os.environ.items() if not name.startswith(PREFIXES)}
    threads, port = str(settings.threads), str(settings.port)
    return (
        kept
        | settings.environment()
        | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": folder,
            "OMP_NUM_THREADS": threads,
            "TESSERA_PORT": port,
            "TESSERA_MODELS": str(settings.checkpoint),
            "TESSERA_DEVICES": settings.device,
            "TESSERA_THREADS": threads,
            "TESSERA_CACHE_BYTES": "0",
            "TESSERA_FILE_CACHE_BYTES": "0",
            "TESSERA_MAX_ROWS_WAITING": "100000",
            "TESSERA_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT),
            "TESSERA_LOG_LEVEL": "WARNING",
            "BENTOML_HOST": "127.0.0.1",
            "BENTOML_PORT": port,
            "BENTOML_HOME": folder,
            "BENTOML_DO_NOT_TRACK": "True",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
    )


START = 300.0  # seconds until a start is given up
LEAVE = 30.0  # seconds to end in order
POLL = 0.25  # seconds between looks
LOG_LINES = 10  # the last ones, where a system has failed
MARK = "PEER_MARK"


@dataclass(frozen=True, slots=True)
class Running:
    """A system that was started."""

    url: str
    session: int
    mark: str

    @property
    def processes(self) -> list[psutil.Process]:
        """Those of its session, and those that left it with its mark.

        One alone does not find them all: some start sessions of their own, some write their title
        over their environment.
        """
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # it has ended, or is somebody else's
                if process.status() != psutil.STATUS_ZOMBIE and (
                    os.getsid(process.pid) == self.session
                    or process.environ().get(MARK) == self.mark
                ):
                    found.append(process)
        return found

    def pause(self) -> None:
        """Stops all its processes, so that it takes no time from another one."""
        _signal(self.processes, signal.SIGSTOP)

    def resume(self) -> None:
        """Has them go on."""
        _signal(self.processes, signal.SIGCONT)


@contextmanager
def running(system: System, settings: PeerSettings, first: LoadRequest) -> Iterator[Running]:
    """The system, once it has answered ``first``. Raises `UserError` where it never does."""
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
        service = Running(f"http://127.0.0.1:{placed.port}", process.pid, mark)
        try:
            _await_answer(system, first, process, service.url, log)
            yield service
        finally:
            _end(process, service)


def free_port() -> int:
    """A port that nobody listens on now.

    Below those that Linux gives to whoever asks for any, 32768 to 60999: a system may ask for many
    before it listens on this one.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise UserError("no port between 20000 and 32000 is free")


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(number)


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
            time.sleep(POLL)
    raise UserError(f"{system.title} answers {said} after {START:.0f} s{_end_of(log)}")


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return "; its log ends" + "".join(f"\n  {line}" for line in lines) if lines else ""


def _end(process: subprocess.Popen[bytes], service: Running) -> None:
    """Asks the first process to leave; what is then left of them is killed."""
    service.resume()  # one that is stopped would not hear it
    try:
        process.terminate()
        process.wait(LEAVE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        deadline = time.monotonic() + LEAVE
        while (left := service.processes) and time.monotonic() < deadline:
            _signal(left, signal.SIGKILL)
            time.sleep(POLL)
        process.wait()
