"""A family out of a package of its own. If these fail, a family needs a change to this tree."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ripples import FOLDER, install
from tests.service.running import Service, running


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("ripples"))


@pytest.fixture(scope="module")
def service(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("service") / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(packages))
        with running(FOLDER, log) as started:
            yield started.await_ready()


def test_its_parameter_is_shown_wherever_parameters_are(
    service: Service, packages: Path, tmp_path: Path
) -> None:
    (model,) = httpx.get(f"{service.url}/v1/models").json()["data"]
    assert (model["family"], model["seed_exact"]) == ("ripples", True)
    (waves,) = (one for one in model["parameters"] if one["name"] == "waves")
    document = httpx.get(f"{service.url}/openapi.json").json()
    body = document["components"]["schemas"]["ImagesBody"]["properties"]
    address = document["paths"]["/v1/images/{seed}.{format}"]["get"]["parameters"]
    assert body["waves"]["anyOf"][0]["maximum"] == waves["maximum"]
    assert "waves" in [parameter["name"] for parameter in address]
    help_text = tessera(packages, tmp_path, "generate", "--model", str(FOLDER), "--help")
    assert "--waves" in help_text


def test_it_draws_what_is_asked_the_same_everywhere(
    service: Service, packages: Path, tmp_path: Path
) -> None:
    body = {"prompt": "sea", "seed": 3, "waves": 7, "size": "96x128"}
    posted = httpx.post(
        f"{service.url}/v1/images", json=body, headers={"accept": "image/png"}, timeout=60
    )
    assert posted.status_code == 200
    address = posted.headers["content-location"]
    assert "waves=7" in address
    assert "size=96x128" in address
    assert httpx.get(f"{service.url}{address}").content == posted.content
    drawn = ("generate", "sea", "--model", str(FOLDER), "--seed", "3", "--waves", "7")
    tessera(packages, tmp_path, *drawn, "--size", "96x128", "--dtype", "fp32")
    assert pixels(tmp_path / "out" / "3.png") == pixels(write(tmp_path, posted.content))


def test_what_it_does_not_take_is_refused_in_words(service: Service) -> None:
    refused = {
        "waves": (99, "waves: 99 was given, 1 to 20 is accepted"),
        "guidance": (2, "guidance: there is no such field"),
        "size": ("33x64", "size: 33x64 was given, ripples draws"),
    }
    for field, (value, message) in refused.items():
        answer = httpx.post(f"{service.url}/v1/images", json={field: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
        assert answer.json()["error"]["message"].startswith(message)


def tessera(packages: Path, folder: Path, *arguments: str) -> str:
    """What the command says, run in ``folder`` with the example installed."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(packages), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(folder: Path, body: bytes) -> Path:
    path = folder / "posted.png"
    path.write_bytes(body)
    return path


def pixels(path: Path) -> bytes:
    """Of a PNG; metadata names numerics, which the number of threads may change."""
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()
