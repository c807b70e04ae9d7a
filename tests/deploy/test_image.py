"""If this fails, the container does not run as deployments run it, or loses requests at its end.

Needs a built image, named by TESSERA_TEST_IMAGE, and the Docker or Podman that has it: see
docs/deployment.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import IMAGE
from tests.deploy.fleet import ROOT
from tests.metrics import metric_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not IMAGE, reason="no TESSERA_TEST_IMAGE (docs/deployment.md)"),
]

USER = 4321  # no user of the image
PATIENCE = 180.0  # seconds
SLOW = {"model": "emoji-flow", "prompt": "red apple", "seed": 7, "n": 10, "steps": 30}

ASK = """
import sys, time, urllib.error, urllib.request
sent = time.monotonic()
request = urllib.request.Request(
    "http://127.0.0.1:8000/v1/images",
    data=sys.argv[1].encode(),
    headers={"Content-Type": "application/json", "Accept": "application/json"},
)
try:
    with urllib.request.urlopen(request, timeout=300) as answer:
        sys.stdout.write(answer.read().decode())
except urllib.error.HTTPError as error:
    sys.exit(f"{error}: {error.read().decode()}")
print(f"{time.monotonic() - sent:.1f} s", file=sys.stderr)
"""

READ_METRICS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8000/metrics").read().decode())
"""

PROBE = """
import errno, json, os, pwd, socket
try:
    user = pwd.getpwuid(os.getuid()).pw_name
except KeyError:
    user = None
writable = []
for folder, _, _ in os.walk("/"):
    if folder.split("/")[1] in ("proc", "sys", "dev", "tmp"):
        continue
    if os.access(folder, os.W_OK) and not os.path.ismount(folder):
        writable.append(folder)
status = dict(line.split(":\\t", 1) for line in open("/proc/1/status") if ":\\t" in line)
print(json.dumps({
    "user": user,
    "uids": status["Uid"].split(),
    "capabilities": int(status["CapEff"], 16),
    "command": open("/proc/1/cmdline").read().split("\\0")[:-1],
    "networks": [name for _, name in socket.if_nameindex()],
    "writable": writable,
}))
"""


@dataclass
class Container:
    """A running one. ``engine`` is the program that runs it."""

    engine: str
    name: str

    def execute(self, *command: str) -> str:
        return output(self.engine, "exec", self.name, *command)

    def client(self, body: dict[str, object]) -> subprocess.Popen[str]:
        """Asks for images from a container of its own on the same loopback: it outlives this."""
        return subprocess.Popen(
            [
                *(self.engine, "run", "--rm", "--no-healthcheck"),
                *("--network", f"container:{self.name}"),
                *("--entrypoint", "python3", IMAGE, "-c", ASK, json.dumps(body)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def await_log(self, pattern: str) -> None:
        self.await_true(lambda: re.search(pattern, self.log) is not None, pattern)

    def await_true(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"never: {what}\n{self.log}"
            time.sleep(0.1)

    @property
    def log(self) -> str:
        done = subprocess.run(
            [self.engine, "logs", self.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.stdout


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def engine() -> str:
    """Docker or Podman, whichever has the image."""
    for name in ("docker", "podman"):
        if path := shutil.which(name):
            inspected = subprocess.run([path, "image", "inspect", IMAGE], capture_output=True)
            if inspected.returncode == 0:
                return path
    pytest.fail(f"neither Docker nor Podman has an image {IMAGE!r}")


@pytest.fixture
def container(engine: str) -> Iterator[Container]:
    """Confined as by docker-compose.yml, and more: no network, a user that the image lacks."""
    name = f"tessera-test-{uuid.uuid4().hex}"
    # Podman would add the user to /etc/passwd. What the image says of its health is run below:
    # Podman leaves it to systemd, which not every machine has.
    engines_own = ["--passwd=false"] if Path(engine).name == "podman" else []
    command = [
        *(engine, "run", "--detach", "--name", name, "--no-healthcheck", *engines_own),
        *("--read-only", "--tmpfs", "/tmp", "--network", "none"),
        *("--user", f"{USER}:{USER}", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--memory", "2g", "--pids-limit", "512"),
        *("--env", "TESSERA_SHUTDOWN_TIMEOUT=125", "--env", "TESSERA_THREADS=1"),
        IMAGE,
    ]
    running = Container(engine, name)
    try:
        output(*command)
        running.await_log(r"ready after [\d.]+ s: ")
        yield running
    finally:
        subprocess.run([engine, "rm", "--force", name], capture_output=True)


def test_it_serves_confined_and_finishes_what_it_accepted(container: Container) -> None:
    confined = json.loads(container.execute("python3", "-c", PROBE))
    assert confined["user"] is None
    assert confined["uids"] == [str(USER)] * 4
    assert confined["capabilities"] == 0
    assert confined["networks"] == ["lo"]
    assert confined["writable"] == []
    assert confined["command"][-1] == "serve"  # process 1 is the server, not a shell

    dockerfile = (ROOT / "Dockerfile").read_text()
    health = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert health
    container.execute(*json.loads(health[1]))

    first = container.client({**SLOW, "n": 1, "steps": 4})
    answer, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, errors
    assert len(json.loads(answer)["images"]) == 1

    slow = container.client(SLOW)
    container.await_true(lambda: rows_running(container) > 0, "a row with a worker")
    output(container.engine, "kill", "--signal", "TERM", container.name)
    container.await_log("leaving")
    assert slow.poll() is None  # not answered yet
    code = output(container.engine, "wait", container.name)
    answer, errors = slow.communicate(timeout=PATIENCE)
    assert slow.returncode == 0, f"{errors}\n{container.log}"
    print(f"SIGTERM during a request of {errors.strip()}; exit code {code}")
    assert len(json.loads(answer)["images"]) == SLOW["n"]
    assert code == "0", container.log


def rows_running(container: Container) -> float:
    return metric_in(container.execute("python3", "-c", READ_METRICS), "rows_running")
