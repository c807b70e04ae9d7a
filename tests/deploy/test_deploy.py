"""The containers and the files beside them speak of settings, metrics and files that exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.metrics import Metrics
from app.settings import Settings
from tests.deploy.fleet import ROOT

Program = Callable[[str], str]


@pytest.fixture
def compose() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(content, dict)
    return content


def replicas(compose: dict[str, Any]) -> dict[str, Any]:
    return {
        name: service for name, service in compose["services"].items() if name.startswith("tessera")
    }


@pytest.mark.parametrize("file", ["Dockerfile", "docker-compose.yml"])
def test_settings_named_in_containers_exist(file: str) -> None:
    # A misspelt variable would be ignored by the service, and nobody would notice.
    named = {name.lower() for name in re.findall(r"\bTESSERA_(\w+)", (ROOT / file).read_text())}
    assert named
    assert named <= set(Settings.model_fields)


def interpolated(value: object, given: dict[str, str]) -> str:
    """As Compose reads ${NAME:-default} and ${NAME:+instead}."""

    def replace(match: re.Match[str]) -> str:
        name, sign, text = match.groups()
        return given.get(name) or text if sign == "-" else text if given.get(name) else ""

    return re.sub(r"\$\{(\w+):([-+])([^}]*)\}", replace, str(value))


@pytest.mark.parametrize(
    "given",
    [{}, {"TESSERA_RATE_LIMIT": "600/minute", "TESSERA_API_KEYS": f"anna={'0' * 64}"}],
    ids=["nothing set", "keys and limits"],
)
@pytest.mark.usefixtures("no_dotenv")
def test_the_service_starts_with_what_compose_sets(
    compose: dict[str, Any], given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in replicas(compose).values():
        for name, value in service["environment"].items():
            monkeypatch.setenv(name, interpolated(value, given))
        settings = Settings()
        assert settings.without_effect() == []
        assert bool(settings.rate_limit) is bool(given)
        assert (settings.rate_limit_store == "redis://redis:6379") is bool(given)


@pytest.mark.parametrize("files", [[], ["deploy/compose.gpu.yml"]], ids=["cpu", "gpu"])
def test_compose_itself_accepts_the_files(program: Program, files: list[str]) -> None:
    chosen = [part for file in ("docker-compose.yml", *files) for part in ("-f", file)]
    done = subprocess.run(
        [program("docker-compose"), *chosen, "config", "--format", "json"],
        cwd=ROOT,
        env={"TESSERA_RATE_LIMIT": "600/minute", "CPUS": "4", "HOME": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "level=warning" not in done.stderr
    services = json.loads(done.stdout)["services"]
    for service in replicas({"services": services}).values():
        assert service["environment"]["TESSERA_THREADS"] == "4"
        assert service["environment"]["TESSERA_RATE_LIMIT_STORE"] == "redis://redis:6379"


def test_the_gpu_file_speaks_of_the_same_replicas(compose: dict[str, Any]) -> None:
    gpus = yaml.safe_load((ROOT / "deploy/compose.gpu.yml").read_text())["services"]
    assert set(gpus) == set(replicas(compose))
    taken = [
        device["device_ids"]
        for service in gpus.values()
        for device in service["deploy"]["resources"]["reservations"]["devices"]
    ]
    assert taken == [["0"], ["1"]]


def test_compose_lets_the_service_finish(compose: dict[str, Any]) -> None:
    # Docker sends SIGKILL after stop_grace_period: accepted images would be lost.
    for service in replicas(compose).values():
        environment = service["environment"]
        finishing = environment["TESSERA_SHUTDOWN_TIMEOUT"]
        assert finishing > Settings.model_fields["request_timeout"].default
        needed = environment["TESSERA_DRAIN_DELAY"] + finishing
        assert float(service["stop_grace_period"].removesuffix("s")) > needed


def test_nginx_and_prometheus_know_every_replica(compose: dict[str, Any]) -> None:
    addresses = {f"{name}:8000" for name in replicas(compose)}
    assert len(addresses) == 2
    servers = (ROOT / "deploy/nginx/servers.conf").read_text()
    assert set(re.findall(r"^server (\S+) resolve ", servers, re.MULTILINE)) == addresses
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (static,) = job["static_configs"]
    assert set(static["targets"]) == addresses


def test_what_compose_mounts_exists(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            else:
                assert source in compose["volumes"]


def test_every_container_is_confined(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        for port in service.get("ports", []):  # only nginx may be opened to others
            assert port.startswith("127.0.0.1:" if name != "nginx" else "${HOST:-127.0.0.1}:")


def test_grafana_finds_its_dashboard_and_prometheus(compose: dict[str, Any]) -> None:
    folder = ROOT / "deploy/grafana"
    (source,) = yaml.safe_load((folder / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    dashboard = json.loads((folder / "dashboards/tessera.json").read_text())
    for panel in dashboard["panels"]:
        assert panel.get("datasource", {}).get("uid", source["uid"]) == source["uid"]
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    home = Path(
        compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    )
    assert (folder / "dashboards" / home.name).is_file()


def test_alerts_and_dashboard_ask_for_metrics_that_exist() -> None:
    rules = (ROOT / "deploy/prometheus/rules.yml").read_text()
    dashboard = (ROOT / "deploy/grafana/dashboards/tessera.json").read_text()
    operations = (ROOT / "docs/operations.md").read_text()
    exist = set(re.findall(r"^# HELP (\w+)", Metrics().render().decode(), re.MULTILINE))
    for text in (re.sub(r"runbook: >-\n(?: {12}.*\n)*", "", rules), dashboard, operations):
        asked = set(re.findall(r"\b((?:tessera|process)_\w+)", text))
        asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
        assert asked
        assert asked <= exist
