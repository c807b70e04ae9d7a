"""If these fail, a cluster refuses the manifests, or takes them and loses work.

Rendered by kubectl's kustomize and held against the schemas of the API, offline: those of
kubernetes-validate, and cloudcoil's for the operators' own kinds.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus

from app.metrics import Metrics
from app.server import READING_TIME
from app.settings import Settings
from tests.deploy.fleet import ROOT

FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())
VERSIONS = ("1.33", kubernetes_validate.latest_version())
OPERATORS: dict[str, Any] = {
    "ServiceMonitor": prometheus.ServiceMonitor,
    "PrometheusRule": prometheus.PrometheusRule,
    "ScaledObject": keda.ScaledObject,
}

Manifest = dict[str, Any]
Render = Callable[[Path], list[Manifest]]


@pytest.fixture(scope="session")
def render(program: Callable[[str], str]) -> Render:
    """What `kubectl apply -k` would send."""
    kubectl = program("kubectl")

    def kustomize(folder: Path) -> list[Manifest]:
        done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))

    return kustomize


def validate(manifest: Manifest) -> None:
    """Raises where a field is unknown, missing or of the wrong type."""
    model = OPERATORS.get(manifest["kind"])
    if model is None:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
    else:
        # The models drop what they do not know.
        read = model.model_validate(manifest).model_dump(by_alias=True, exclude_unset=True)
        assert read == manifest


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_are_what_the_api_takes(overlay: str, render: Render) -> None:
    manifests = render(FOLDER / "overlays" / overlay)
    assert {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"} <= {
        manifest["kind"] for manifest in manifests
    }
    for manifest in manifests:
        validate(manifest)
        assert manifest["metadata"]["namespace"] == "tessera"


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_fits_the_base(component: str, render: Render, tmp_path: Path) -> None:
    parts = {
        "resources": [os.path.relpath(FOLDER / "base", tmp_path)],
        "components": [os.path.relpath(FOLDER / "components" / component, tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    for manifest in render(tmp_path):
        validate(manifest)


def test_the_validation_finds_what_is_wrong(render: Render) -> None:
    # Schemas that let everything pass would prove nothing.
    for manifest in render(FOLDER / "overlays/gpu"):
        if "spec" in manifest:
            manifest["spec"]["nonsense"] = 1
            with pytest.raises((kubernetes_validate.ValidationError, AssertionError)):
                validate(manifest)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_named_exists(overlay: str, render: Render) -> None:
    manifests = render(FOLDER / "overlays" / overlay)
    names = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    names.add(("Secret", "tessera-secrets"))  # made by hand, as the overlay says
    for pod, selector in pods(manifests):
        assert selector.items() <= pod["metadata"]["labels"].items()
        spec = pod["spec"]
        (container,) = spec["containers"]
        for source in container.get("envFrom", []):
            for kind, reference in source.items():
                assert (kind[0].upper() + kind[1:].removesuffix("Ref"), reference["name"]) in names
        for volume in spec["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in names
    settings = set(re.findall(r"\bTESSERA_(\w+)", yaml.safe_dump_all(manifests)))
    assert {name.lower() for name in settings} <= set(Settings.model_fields)


def pods(manifests: list[Manifest]) -> list[tuple[Manifest, dict[str, str]]]:
    """The Pod of each Deployment, and the labels by which it is found."""
    return [
        (each["spec"]["template"], each["spec"]["selector"]["matchLabels"])
        for each in manifests
        if each["kind"] == "Deployment"
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_may_do_no_more_than_they_need(overlay: str, render: Render) -> None:
    for pod, _ in pods(render(FOLDER / "overlays" / overlay)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # a Service named tessera sets TESSERA_PORT
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        assert "memory" in container["resources"]["limits"]


def test_the_user_is_the_images_own(render: Render) -> None:
    (user,) = re.findall(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    (pod, _), *_ = pods(render(FOLDER / "base"))
    assert pod["spec"]["securityContext"]["runAsUser"] == int(user)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_is_time_to_finish(overlay: str, render: Render) -> None:
    # The kubelet sends SIGKILL after the grace: accepted images would be lost.
    manifests = render(FOLDER / "overlays" / overlay)
    (data,) = (
        each["data"]
        for each in manifests
        if each["kind"] == "ConfigMap" and "TESSERA_DRAIN_DELAY" in each["data"]
    )
    accepted, draining, finishing = (
        float(data[f"TESSERA_{name}"])
        for name in ("REQUEST_TIMEOUT", "DRAIN_DELAY", "SHUTDOWN_TIMEOUT")
    )
    assert finishing > accepted
    for pod, _ in pods(manifests):
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        (container,) = pod["spec"]["containers"]
        waiting = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        if waiting:  # the router
            assert accepted < waiting["seconds"] < grace
        else:
            assert draining + finishing + READING_TIME < grace


@pytest.mark.parametrize("component", ["hpa", "keda"])
def test_replicas_follow_a_metric_that_exists(component: str) -> None:
    text = (FOLDER / f"components/{component}/autoscaler.yaml").read_text()
    known = set(re.findall(r"^# HELP (\w+)", Metrics().render().decode(), re.MULTILINE))
    asked = set(re.findall(r"\btessera_\w+", text))
    assert asked == {"tessera_rows_waiting"}
    assert asked <= known


def test_the_operators_rules_are_prometheus_own() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    copied = yaml.safe_load((FOLDER / "components/monitoring/rules.yaml").read_text())
    assert copied["spec"] == rules
