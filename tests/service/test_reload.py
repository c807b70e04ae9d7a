"""A model that was trained on is taken in while the service runs, and no image is lost by it."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import torch
from safetensors.torch import load_file, save_file

from tests.service.running import Service, Start
from tests.tiny import tiny_flow, tiny_gan

SLOW = {"model": "cats", "prompt": "red apple", "steps": 100, "seed": 1, "n": 2}


def digests(url: str) -> dict[str, str]:
    return {one["id"]: one["digest"] for one in httpx.get(f"{url}/v1/models").json()["data"]}


def test_what_has_changed_is_loaded_and_what_was_accepted_is_finished(
    start: Start, tmp_path: Path
) -> None:
    """Two runs, each with a folder called checkpoint; one is trained on, then spoilt."""
    cats = tiny_flow(tmp_path / "a" / "checkpoint")
    tiny_gan(tmp_path / "b" / "checkpoint")
    models = f"cats={tmp_path / 'a'},dogs={tmp_path / 'b' / 'checkpoint'}"
    with start(MODELS=models) as service, ThreadPoolExecutor(1) as thread:
        url = service.await_ready().url
        before = digests(url)
        assert list(before) == ["cats", "dogs"]
        address = f"{url}/v1/images/1.png?model=cats"
        pinned = f"{address}@{before['cats']}"
        old = httpx.get(pinned)
        assert httpx.get(address).content == old.content
        expected = httpx.post(f"{url}/v1/images", json=SLOW, timeout=60).json()
        again = SLOW | {"seed": 2}  # the second is computed now, the first was kept
        slow = thread.submit(httpx.post, f"{url}/v1/images", json=again, timeout=60)
        while not service.metric("rows_running"):
            time.sleep(0.01)
        tiny_flow(cats, seed=1)
        service.signal(signal.SIGHUP)
        while not slow.done():  # the new one takes requests as soon as it is ready
            assert httpx.get(f"{url}/readyz").status_code == 200
            time.sleep(0.05)
        service.await_log(r"reloaded cats \(")
        after = digests(url)
        assert after["dogs"] == before["dogs"]
        assert after["cats"] != before["cats"]
        answer = slow.result().json()
        assert answer["images"][0]["b64_json"] == expected["images"][1]["b64_json"]
        new = httpx.post(f"{url}/v1/images", json=SLOW, timeout=60).json()
        assert new["images"][0]["b64_json"] != expected["images"][0]["b64_json"]
        assert httpx.get(address).content != old.content
        assert httpx.get(pinned).status_code == 404

        weights = load_file(cats / "model.safetensors")
        weights["patch_embed.bias"].fill_(torch.nan)
        save_file(weights, cats / "model.safetensors")
        service.signal(signal.SIGHUP)
        service.await_log("no reload, the models stay as they are: .*patch_embed.bias has values")
        shutil.rmtree(cats)
        service.signal(signal.SIGHUP)
        service.await_log("no reload, the models stay as they are: .*has neither config.json")
        assert digests(url) == after
        service.signal()
        assert service.ended() == 0


TAKES_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "app.cli", "serve"])
"""


def test_a_service_ends_with_its_terminal(tiny: Path, tmp_path: Path) -> None:
    """Though the same signal loads models again where the terminal is still there, or none is."""
    ours, theirs = pty.openpty()
    settings = {"MODELS": str(tiny), "DEVICES": "cpu", "THREADS": "1", "PORT": "0"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKES_TERMINAL],
            stdin=theirs,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {f"TESSERA_{name}": value for name, value in settings.items()},
        )
    os.close(theirs)
    service = Service(process, tmp_path / "log")
    try:
        service.await_ready().signal(signal.SIGHUP)
        service.await_log("no model has changed")
        os.close(ours)
        assert service.ended() == 0
        assert "leaving: no new work" in service.log
    finally:
        process.kill()
