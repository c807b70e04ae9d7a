"""If these fail, replicas count each for themselves, or a dead Redis takes them all down."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx

from tests.service.running import Service, running

BODY = {"prompt": "red apple", "steps": 4, "n": 5}  # guided: 40 evaluations


@contextmanager
def redis(program: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [program, "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_replicas_share_a_limit_and_survive_its_store(
    program: Callable[[str], str], tiny: Path, tmp_path: Path
) -> None:
    """And it holds again once the store is back."""
    path = program("redis-server")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    replica = partial(
        running, tiny, RATE_LIMIT="100/hour", RATE_LIMIT_STORE=f"redis://127.0.0.1:{port}"
    )
    with ExitStack() as stack:
        first: Service = stack.enter_context(replica(tmp_path / "first"))
        second: Service = stack.enter_context(replica(tmp_path / "second"))
        urls = [service.await_ready().url for service in (first, second)]

        def ask(url: str) -> int:
            return httpx.post(f"{url}/v1/images", json=BODY, timeout=30).status_code

        def unchecked() -> float:
            return first.metric("rate_limits_unchecked_total")

        # Started before its store: nobody is limited, and nobody waits for it.
        assert [ask(url) for url in urls] == [200, 200]
        assert unchecked() == 1

        with redis(path, port) as store:
            assert [ask(url) for url in (*urls, *urls)] == [200, 200, 429, 429]
            # One that hangs is worse than one that is gone: each request would wait for it.
            store.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert [ask(url) for url in urls] == [200, 200]
            assert time.monotonic() - began < 10
            store.send_signal(signal.SIGCONT)
            deadline = time.monotonic() + 10
            while ask(urls[0]) != 429:
                assert time.monotonic() < deadline
            before = unchecked()
        assert ask(urls[0]) == 200  # gone
        assert unchecked() == before + 1 >= 3

        with redis(path, port):  # and back, empty
            assert [ask(url) for url in (*urls, *urls)] == [200, 200, 429, 429]
