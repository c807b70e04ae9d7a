"""If these fail, a fleet on Ray loses work, draws other bytes, or serves the wrong model.

A real local cluster. Needs the extra "ray".
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml

from app.settings import Settings
from tests.deploy.clients import Outcome, ask, request
from tests.deploy.fleet import ROOT, fleet, free_ports

pytest.importorskip("ray", reason='the extra "ray" is not installed: pip install -e .[ray]')

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own
    from ray.serve.schema import ServeDeploySchema

    from app.ray_serve import FleetArguments, build

FOLDER = ROOT / "deploy/ray"


@dataclass
class Cluster:
    """A fleet on Ray, see ray_driver.py."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def say(self, line: str) -> str:
        """Has the driver do something; what it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("= "):
                return line.removeprefix("= ").strip()
        raise AssertionError(self.log.read_text())


@contextmanager
def cluster(folder: Path, models: list[Path], models_per_replica: int = 0) -> Iterator[Cluster]:
    (port,) = free_ports(1)
    settings = {
        "TESSERA_MODELS": ",".join(map(str, models)),
        "TESSERA_DEVICES": "cpu",
        "TESSERA_DTYPE": "fp32",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
    }
    log = folder / "ray.log"
    # Ray's sockets lie in this folder, whose path may not be long.
    ray_folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    driver = str(Path(__file__).with_name("ray_driver.py"))
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, driver, str(port), ray_folder, str(models_per_replica)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | settings,
            text=True,
        )
    running = Cluster(f"http://127.0.0.1:{port}", process, log)
    try:
        assert running.answer() == "ready"
        yield running
    finally:
        process.communicate(timeout=60)  # the end of its input is its end
        shutil.rmtree(ray_folder, ignore_errors=True)


def check_serve_config(config: dict[str, Any]) -> None:
    for application in ServeDeploySchema(**config).applications:
        assert application.import_path == f"{build.__module__}:{build.__name__}"
        FleetArguments(**application.args)
        names = set(application.runtime_env.get("env_vars", {}))
        known = {f"TESSERA_{name}".upper() for name in Settings.model_fields}
        assert names <= known
        assert {deployment.name for deployment in application.deployments} <= {"Front", "Tessera"}


def test_the_configurations_are_what_ray_and_kubernetes_take() -> None:
    check_serve_config(yaml.safe_load((FOLDER / "serve.yaml").read_text()))
    service = yaml.safe_load((FOLDER / "rayservice.yaml").read_text())
    check_serve_config(yaml.safe_load(service["spec"]["serveConfigV2"]))
    ray_cluster = service["spec"]["rayClusterConfig"]
    for group in (ray_cluster["headGroupSpec"], *ray_cluster["workerGroupSpecs"]):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod"},
            "spec": group["template"]["spec"],
        }
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_nothing_is_lost_while_replicas_come_and_go(tiny: Path, tmp_path: Path) -> None:
    count = 300
    seen = Outcome()
    with fleet(tiny, tmp_path, free_ports(1)) as replicas:
        async with replicas[0].service.client() as http:
            expected = [await ask(http, *request(k), seen) for k in range(count)]

    with cluster(tmp_path, [tiny]) as running:
        ended = asyncio.Event()
        order = iter(range(10**9))

        async def client(http: httpx.AsyncClient) -> None:
            while (turn := next(order)) < count or not ended.is_set():
                answer = await ask(http, *request(turn % count), seen)
                seen.answered += 1
                seen.wrong += answer != expected[turn % count]

        async def come_and_go() -> None:
            for line in ("scale 2", "kill", "scale 2", "scale 1", "kill", "scale 1"):
                assert await asyncio.to_thread(running.say, line)
                await asyncio.sleep(2)
            ended.set()

        async with (
            httpx.AsyncClient(base_url=running.url, timeout=300) as http,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(come_and_go())
            for _ in range(6):
                group.create_task(client(http))
        print(seen)
        assert seen.answered >= count
        assert seen.wrong == 0
        assert running.say("replicas") == "1"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_models_come_and_go_where_a_replica_has_room_for_one(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    models = [tiny_models["flow"], tiny_models["gan"], tiny_models["gpt"]]
    with cluster(tmp_path, models, 1) as running, httpx.Client(timeout=120) as http:
        listed = http.get(f"{running.url}/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["tiny", "tiny-gan", "tiny-gpt"]
        first: dict[str, bytes] = {}
        for model in ["tiny", "tiny-gan", "tiny-gpt"] * 2:
            body = {"prompt": "red apple", "seed": 7, "model": model}
            answer = http.post(f"{running.url}/v1/images", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-tessera-model"].startswith(f"{model}@")
            assert first.setdefault(model, answer.content) == answer.content
            address = f"{running.url}/v1/images/7.png?prompt=red+apple&model={model}"
            assert http.get(address).content == answer.content
        assert len(set(first.values())) == 3
        described = http.post(f"{running.url}/v1/images/describe", files={"image": first["tiny"]})
        assert described.status_code == 200  # by the only one that can
        unknown = http.get(f"{running.url}/v1/images/7.png?model=none")
        assert unknown.status_code == 404
        assert "tiny, tiny-gan, tiny-gpt" in unknown.json()["error"]["message"]
