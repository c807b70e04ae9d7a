"""If this fails, an address is no picture to a browser, or costs the model a run at every visit."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.service.running import Start

PAGE = """<!doctype html><img src="{url}/v1/images/7.png?prompt=red%20apple&size=48"
onload="document.body.append('width ' + this.naturalWidth)"
onerror="document.body.append('broken')">
"""


def test_an_img_loads_and_a_second_visit_is_a_304(
    start: Start, chromium: str, tmp_path: Path
) -> None:
    visit = [
        *(chromium, "--headless", "--no-sandbox", "--disable-gpu"),
        *("--no-first-run", "--disable-background-networking"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"),
    ]
    with start(LINK_MAX_AGE="0") as service:  # every visit asks whether the picture is still right
        service.await_ready()
        page = tmp_path / "page.html"
        page.write_text(PAGE.format(url=service.url), encoding="utf-8")
        for _ in range(2):
            done = subprocess.run(
                [*visit, page.as_uri()], capture_output=True, text=True, timeout=60
            )
            assert "width 48" in done.stdout, done.stdout + done.stderr
        statuses = re.findall(r"GET /v1/images/\S+ .*status=(\d+)", service.log)
        assert statuses == ["200", "304"]
        assert service.metric("images_total") == 1
