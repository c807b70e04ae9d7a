"""If these fail, a service that cannot start seems to run, or one that stops loses work."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from app.server import READING_TIME, listen
from tests.service.raw import answer, connect, large_edit, received
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


def test_draining_waits_for_the_last_byte(start: Start) -> None:
    """Longer than `app.server.READING_TIME`, and for what the engine has long been done with."""
    with start() as service:
        service.await_ready()
        with connect(service, window=65536) as client, connect(service) as other:
            other.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert "connection" not in answer(other).headers
            client.sendall(large_edit(b"application/json"))
            assert client.recv(1) == b"H"
            service.signal()
            service.await_log("leaving")
            other.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer(other).headers["connection"] == "close"
            time.sleep(READING_TIME + 0.5)
            head, _, body = received(client).partition(b"\r\n\r\n")
        assert b"ontent-length: %d\r\n" % len(body) in head
        assert service.ended() == 0


def test_at_the_end_of_the_shutdown_timeout_answers_and_streams_end_in_words(start: Start) -> None:
    kinds = ["application/json", "text/event-stream"] * 12
    with (
        start(SHUTDOWN_TIMEOUT="0.5") as service,
        httpx.Client(timeout=60, limits=httpx.Limits(max_connections=50)) as http,
        ThreadPoolExecutor(len(kinds)) as threads,
    ):
        url = f"{service.await_ready().url}/v1/images"

        def ask(index: int) -> httpx.Response:
            body = SLOW | {"n": 10, "seed": 1000 * index}
            return http.post(url, json=body, headers={"Accept": kinds[index]})

        asked = [threads.submit(ask, index) for index in range(len(kinds))]
        while service.metric("rows_running") + service.metric("rows_waiting") < 150:
            time.sleep(0.01)
        service.signal()
        ended: set[str] = set()
        for kind, one in zip(kinds, (each.result() for each in asked), strict=True):
            assert one.headers["x-request-id"]
            if one.status_code == 503:
                assert one.json()["error"]["code"] == "draining"
                ended.add(kind)
            elif kind == "text/event-stream" and "event: done" not in one.text:
                assert "event: error" in one.text
                assert '"code":"draining"' in one.text
                ended.add("stream")
            else:
                assert one.status_code == 200
        assert ended >= {"application/json", "stream"}
        assert service.ended() == 1
        assert "Traceback" not in service.log


def test_it_starts_where_there_is_another_package_of_its_name(start: Start, tmp_path: Path) -> None:
    for package in ("app", "model"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    # The installed program: python -m would import that package in this process already.
    with start((str(Path(sys.executable).with_name("tessera")), "serve")) as service:
        service.await_ready()


def test_what_the_command_says_comes_before_the_settings(
    start: Start, tiny_models: dict[str, Path]
) -> None:
    gan, flow = tiny_models["gan"], tiny_models["flow"]
    options = (f"mine={gan}", str(flow), "--host", "127.0.0.1", "--port", "0")
    elsewhere = {"MODELS": "nothing", "HOST": "192.0.2.1", "PORT": "1"}
    with start(("app.cli", "serve", *options), **elsewhere) as service:
        service.await_ready()
        listed = httpx.get(f"{service.url}/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["mine", flow.name]


def test_a_taken_port_is_said_in_one_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with start(PORT=str(port)) as service:
            assert service.ended() == 1
            (line,) = service.log.splitlines()
            assert f"port {port} on 127.0.0.1 is taken" in line


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_all_addresses_of_ipv6_are_those_of_ipv4_too() -> None:
    with listen("::", 0) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


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
    ("name", "value"),
    [
        ("TILE", "many"),
        ("RATE_LIMIT_STORE", "punchcards://"),
        ("C2PA_CERTIFICATES", "/nowhere.pem"),
        ("METRICS_ACCESS", "key"),  # without keys: it would be open, and does not say so
        ("MODEL_ALIASES", "dall-e-3=nowhere"),
    ],
)
def test_a_wrong_setting_is_said_in_one_line(start: Start, name: str, value: str) -> None:
    beside = {"C2PA_KEY": "/nowhere.pem"} if name == "C2PA_CERTIFICATES" else {}
    with start(**{name: value}, **beside) as service:
        assert service.ended() == 1
        (line,) = service.log.splitlines()
        assert f"TESSERA_{name}: " in line
