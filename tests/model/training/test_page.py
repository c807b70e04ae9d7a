"""A run's page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from model.training.page import POINTS, SHEETS, Page, View, duration

LOG = [{"step": step, "loss": 1 / step, "pictures_per_second": 9.0} for step in range(1, 1001)]


@pytest.fixture
def view(tmp_path: Path) -> View:
    samples = tmp_path / "my <run>" / "samples"
    samples.mkdir(parents=True)
    sheets = {}
    for step in range(100, 4100, 100):
        sheets[step] = samples / f"{step:07}.png"
        Image.new("RGB", (8, 8), (step % 256, 0, 0)).save(sheets[step])
    return View("training", 4000, 5000, 90, 125, ["captions such as '<b>'"], sheets)


def test_a_page_is_complete_in_itself(view: View, tmp_path: Path) -> None:
    page = Page(tmp_path / "my <run>", LOG)
    page.write(view)
    text = page.path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|samples/)", text)
    assert "my &lt;run&gt;" in text
    assert "&lt;b&gt;" in text
    assert "step 4,000 of about 5,000 · 1 min 30 s of training · 2 min 5 s left" in text
    assert "location.reload()" in text


def test_a_long_run_has_a_small_page(view: View, tmp_path: Path) -> None:
    page = Page(tmp_path / "my <run>", LOG)
    page.write(view)
    text = page.path.read_text(encoding="utf-8")
    [points] = re.findall(r'points="([^"]*)"', text)
    assert len(points.split()) == POINTS
    shown = re.findall(r"<figcaption>step ([\d,]+)<", text)
    assert len(shown) <= SHEETS
    assert shown[0] == "4,000"  # the latest comes first
    assert "100" in shown


def test_a_finished_run_says_what_serves_it(view: View, tmp_path: Path) -> None:
    page = Page(tmp_path / "my <run>", LOG)
    page.write(replace(view, state="finished"))
    text = page.path.read_text(encoding="utf-8")
    assert 'data-state="finished"' in text
    assert "The model is ready." in text
    assert re.search(r"tessera serve &#x27;\S+/my &lt;run&gt;&#x27;", text)


def test_a_run_that_has_only_begun_has_a_page(view: View, tmp_path: Path) -> None:
    page = Page(tmp_path / "my <run>", [])
    page.write(replace(view, step=0, left=None, sheets={}))
    text = page.path.read_text(encoding="utf-8")
    assert "after about a minute" in text
    assert "<svg" not in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.4, "59 s"), (60, "1 min 0 s"), (7_260, "2 h 1 min")]
)
def test_durations_are_read_easily(seconds: float, text: str) -> None:
    assert duration(seconds) == text
