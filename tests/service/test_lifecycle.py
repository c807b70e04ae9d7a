"""If these fail, a service that cannot start seems to run, or one that stops loses work."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.service.running import Service, Start, running

SLOW = {"prompt": "red apple", "steps": 100, "n": 8, "seed": 1}


def test_it_lives_before_it_is_ready_and_drains_with_the_port_open(start: Start) -> None:
    with start(DRAIN_DELAY="1") as service:
        assert httpx.get(f"{service.url}/livez").status_code == 200
        service.await_ready()
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{service.url}/v1/images", json=SLOW, timeout=60))

        working = threading.Thread(target=ask)
        working.start()
        service.signal()
        service.await_log("leaving")
        time.sleep(0.2)
        refused = httpx.get(f"{service.url}/readyz")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert httpx.get(f"{service.url}/livez").status_code == 200
        working.join()
        assert service.ended() == 0
        assert answers[0].status_code == 200
        assert len(answers[0].json()["images"]) == 8


def test_the_process_that_serves_has_no_torch(service: Service) -> None:
    # Seconds of start-up, hundreds of megabytes, and on a GPU a context that outlives workers.
    loaded = {map_.path for map_ in psutil.Process(service.process.pid).memory_maps()}
    assert any("python" in path for path in loaded)
    assert not [path for path in loaded if "torch" in path]


def test_an_idle_connection_stays_open_for_as_long_as_was_promised(start: Start) -> None:
    """A balancer that reuses one which just closed answers 502."""
    with start(KEEP_ALIVE="3") as service:
        address = httpx.URL(service.url).netloc.decode()
        with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as client:
            for pause in (0, 1):
                time.sleep(pause)
                client.request("GET", "/livez")
                assert client.getresponse().read()
            began = time.monotonic()
            assert client.sock.recv(1) == b""  # closed
            assert time.monotonic() - began > 2


def test_the_second_signal_does_not_wait(start: Start) -> None:
    with start(DRAIN_DELAY="600") as service:
        service.await_ready()
        service.signal()
        service.await_log("leaving")
        service.signal(signal.SIGINT)
        began = time.monotonic()
        assert service.ended() == 1
        assert time.monotonic() - began < 15


def test_a_taken_port_is_said_in_one_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with start(PORT=str(port)) as service:
            assert service.ended() == 1
            (line,) = service.log.splitlines()
            assert f"port {port} on 127.0.0.1 is taken" in line


def test_more_than_one_uvicorn_worker_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    with start() as service:
        assert service.ended() == 1
        (line,) = service.log.splitlines()
        assert "TESSERA_DEVICES" in line


def broken(tiny: Path, folder: Path, fault: str) -> Path:
    shutil.copytree(tiny, folder)
    match fault:
        case "missing":
            (folder / "tokenizer.json").unlink()
        case "config":
            (folder / "config.json").write_text("{}")
        case "pickle":
            (folder / "model.safetensors").rename(folder / "model.pt")
        case "truncated":
            weights = (folder / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
        case "shape":
            config = (folder / "config.json").read_text()
            (folder / "config.json").write_text(config.replace('"depth": 2', '"depth": 3'))
        case _:
            shutil.rmtree(folder)
    return folder


@pytest.mark.parametrize(
    ("fault", "file"),
    [
        ("folder", "bad: "),
        ("missing", "tokenizer.json: missing"),
        ("config", "config.json: "),
        ("pickle", "model.pt: pickled weights"),
        ("truncated", "model.safetensors: "),
        ("shape", "model.safetensors: "),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_named(
    tiny: Path, tmp_path: Path, fault: str, file: str
) -> None:
    folder = broken(tiny, tmp_path / "bad", fault)
    with running(folder, tmp_path / "log") as service:
        assert service.ended() == 1
        *_, line = service.log.splitlines()
        assert file in line


@pytest.mark.parametrize(
    ("name", "value"), [("TILE", "many"), ("RATE_LIMIT_STORE", "punchcards://")]
)
def test_a_wrong_setting_is_said_in_one_line(start: Start, name: str, value: str) -> None:
    with start(**{name: value}) as service:
        assert service.ended() == 1
        (line,) = service.log.splitlines()
        assert f"TESSERA_{name}: " in line
