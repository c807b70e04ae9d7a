"""The README's way from own pictures to a served model, in the words of the README."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.drawings import drawings, write_drawings
from tests.service.running import running

README = Path(__file__).parents[2] / "README.md"

SMALL = "--size 16 --patch 4 --width 64 --depth 2 --batch 32 --steps 400 --no-compile"
"""What a test has time for; with TESSERA_TEST_FULL=1 the command is as it stands."""

SIDE = 16
"""Pixels along a side at which images are compared."""


def _small(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float64)


def _readme(start: str) -> str:
    """The one command of the README that begins so, without its remark."""
    [line] = re.findall(rf"^{re.escape(start)}.*$", README.read_text(encoding="utf-8"), re.M)
    return str(line).split("#")[0].strip()


@pytest.mark.timeout(900)
def test_forty_pictures_become_a_served_model(tmp_path: Path, full: bool) -> None:
    write_drawings(tmp_path / "path" / "to" / "pictures")
    command = _readme(".venv/bin/tessera train path/to/pictures -o")
    assert command == ".venv/bin/tessera train path/to/pictures -o runs/mine"
    arguments = [sys.executable, "-m", "app.cli", *shlex.split(command)[1:]]
    if not full:
        arguments += [*SMALL.split(), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2" if full else "1"}
    trained = subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert trained.stdout == "runs/mine/checkpoint\n"
    page = (tmp_path / "runs" / "mine" / "progress.html").read_text(encoding="utf-8")
    assert 'data-state="finished"' in page
    assert "tessera serve runs/mine" in page

    real = {caption: _small(image) for caption, image in drawings().items()}
    right = 0
    asked = list(real) if full else list(real)[::5]
    with running(tmp_path / "runs" / "mine", tmp_path / "log") as service:
        service.await_ready()
        assert httpx.get(f"{service.url}/v1/models").json()["data"][0]["id"] == "mine"
        for caption in asked:
            answer = httpx.get(
                f"{service.url}/v1/images/1.png", params={"prompt": caption}, timeout=60
            )
            drawn = _small(Image.open(io.BytesIO(answer.content)))
            nearest = min(real, key=lambda name: float(((real[name] - drawn) ** 2).mean()))
            right += nearest == caption
    assert right >= 0.75 * len(asked), f"{right} of {len(asked)}"
