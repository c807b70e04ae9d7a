"""Replicas on ports of their own, stopped and started again, and what stands in front of them."""

from __future__ import annotations

import getpass
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from tests.service.running import Service, running

ROOT = Path(__file__).resolve().parents[2]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Replica:
    """One service, always on the same port, that can be ended and started again."""

    def __init__(self, model: Path, folder: Path, port: int, **settings: str) -> None:
        self.port = port
        self._model = model
        self._folder = folder
        self._settings = settings
        self._starts = 0
        self._context: AbstractContextManager[Service] | None = None
        self.service = self._start()

    def _start(self) -> Service:
        self._starts += 1
        log = self._folder / f"log-{self.port}-{self._starts}"
        self._context = running(self._model, log, PORT=str(self.port), **self._settings)
        return self._context.__enter__()

    def restart(self) -> None:
        """Starts it again, once it has ended."""
        self.stop()
        self.service = self._start()

    def stop(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None


@contextmanager
def fleet(
    model: Path, folder: Path, ports: Sequence[int] = (), **settings: str
) -> Iterator[list[Replica]]:
    """Replicas on those ports, or two on any; ready."""
    replicas: list[Replica] = []
    try:
        replicas += [Replica(model, folder, port, **settings) for port in ports or free_ports(2)]
        for replica in replicas:
            replica.service.await_ready(180)
        yield replicas
    finally:
        for replica in replicas:
            replica.stop()


@dataclass
class Deployment:
    """Replicas behind a balancer."""

    balancer: str

    url: str
    replicas: list[Replica]

    def metric(self, name: str) -> float:
        """Summed over the replicas."""
        return sum(replica.service.metric(name) for replica in self.replicas)

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=200)
        return httpx.AsyncClient(base_url=self.url, timeout=300, limits=limits)


def await_answer(url: str, seconds: float = 20.0) -> None:
    """Returns once something answers there, whatever it says."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def nginx_config(
    folder: Path, port: int, replicas: Sequence[int], *changes: tuple[str, str]
) -> Path:
    """deploy/nginx with this machine's addresses in place of Compose's.

    Nothing else differs but the ``changes``: text, and what stands in its place.
    """
    source = ROOT / "deploy/nginx"
    text = (source / "nginx.conf").read_text()
    for old, new in (
        *changes,
        *{
            "listen 8080;": f"listen 127.0.0.1:{port};",
            "/tmp/nginx": f"{folder}/nginx",
            "/var/cache/nginx/images": f"{folder}/images",
            "/dev/stdout": f"{folder}/access.log",
            "error_log stderr": f"error_log {folder}/error.log",
            "worker_processes auto": "worker_processes 1",
        }.items(),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    servers = (source / "servers.conf").read_text().splitlines()
    named = [line for line in servers if line.startswith("server ")]
    assert len(named) == 2
    (folder / "servers.conf").write_text(
        "\n".join(f"server 127.0.0.1:{replica} max_fails=0;" for replica in replicas)
    )
    return folder / "nginx.conf"


@contextmanager
def nginx(
    program: str, folder: Path, replicas: Sequence[int], *changes: tuple[str, str]
) -> Iterator[str]:
    """nginx by this repository's configuration, changed, in front of those ports; its URL."""
    (port,) = free_ports(1)
    config = nginx_config(folder, port, replicas, *changes)
    process = subprocess.Popen(
        [
            *(program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")),
            *("-g", f"daemon off; user {getpass.getuser()};"),  # root's nginx would be nobody
        ]
    )
    with _answering(process, port) as url:
        yield url


@contextmanager
def envoy(
    program: str, folder: Path, replicas: Sequence[int], *changes: tuple[str, str]
) -> Iterator[str]:
    """Envoy by deploy/kubernetes/components/router, changed, in front of those ports; its URL."""
    text = (ROOT / "deploy/kubernetes/components/router/envoy.yaml").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    config = yaml.safe_load(text)
    (port,) = free_ports(1)
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    addresses = [{"address": "127.0.0.1", "port_value": replica} for replica in replicas]
    for cluster in config["static_resources"]["clusters"]:
        (endpoints,) = cluster["load_assignment"]["endpoints"]
        endpoints["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": address}}} for address in addresses
        ]
    (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
    command = [program, "-c", str(folder / "envoy.yaml"), "--concurrency", "1"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--disable-hot-restart", "-l", "warning"], stdout=log, stderr=log
        )
    with _answering(process, port) as url:
        yield url


@contextmanager
def _answering(process: subprocess.Popen[bytes], port: int) -> Iterator[str]:
    """A server's URL once it answers; ends the process."""
    try:
        url = f"http://127.0.0.1:{port}"
        await_answer(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


BALANCERS = {"nginx": nginx, "envoy": envoy}
