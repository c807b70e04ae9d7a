"""The files of deploy/ and the containers speak of settings and metrics that exist."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.metrics import Metrics
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def compose() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("file", ["Dockerfile", "docker-compose.yml"])
def test_settings_named_in_containers_exist(file: str) -> None:
    # A misspelt variable would be ignored by the service, and nobody would notice.
    named = {name.lower() for name in re.findall(r"\bTESSERA_(\w+)", (ROOT / file).read_text())}
    assert named
    assert named <= set(Settings.model_fields)


def test_compose_lets_the_service_finish(compose: dict[str, Any]) -> None:
    # Docker sends SIGKILL after stop_grace_period: accepted pictures would be lost.
    service = compose["services"]["tessera"]
    environment = service["environment"]
    needed = environment["TESSERA_DRAIN_DELAY"] + environment["TESSERA_SHUTDOWN_TIMEOUT"]
    assert float(service["stop_grace_period"].removesuffix("s")) > needed


def test_alerts_ask_for_metrics_that_exist() -> None:
    rules = (ROOT / "deploy/prometheus/rules.yml").read_text()
    expressions = " ".join(re.findall(r"expr: (.*)", rules))
    asked = set(re.findall(r"\btessera_\w+", expressions))
    exist = set(re.findall(r"^# HELP (\w+)", Metrics().render().decode(), re.MULTILINE))
    assert asked
    assert asked <= exist


def test_prometheus_accepts_its_configuration(program: Callable[[str], str]) -> None:
    config = ROOT / "deploy/prometheus/prometheus.yml"
    done = subprocess.run(
        [program("promtool"), "check", "config", str(config)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
