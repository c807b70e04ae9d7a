"""``tessera evaluate``: reports are written where they were asked for, or one line says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Refusal, Run
from tests.emoji_sets import make_set

pytestmark = pytest.mark.usefixtures("measured_briefly")


def test_a_report_is_written_where_it_was_asked_for(
    run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple", "1f680": "rocket"})
    said = run(f"evaluate {data} --model {models['flow']} -o report -n 8 --steps 2")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.json", "report.md", "samples.png"}
    assert "| noto | train | name, style | 2 |" in said.stdout
    assert said.stdout.endswith("report/report.md\n")
    assert "2 steps" in said.stdout


def test_what_cannot_be_evaluated_is_refused_in_a_line(
    refused: Refusal, models: dict[str, Path], tmp_path: Path
) -> None:
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    gan = f"--model {models['gan']}"
    assert refused(f"evaluate {data} {gan} --steps 7").startswith("--steps 7 was given")
    (empty := tmp_path / "empty").mkdir()
    assert "empty: no usable image (0 skipped)" in refused(f"evaluate {empty} {gan}")
    assert refused(f"evaluate {data} {empty} {gan}").endswith(
        "captions.jsonl: missing; an emoji set has both"
    )
    assert "only emoji sets may be several" in refused(f"evaluate {empty} {empty} {gan}")
    (tmp_path / "file").touch()
    said = refused(f"evaluate {data} {gan} -o file/report")
    assert said == "--out file/report: file is a file"


def test_own_pictures_are_measured_with_real_ones_beside_them(
    run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    """Whatever their captions are, even longer than the model takes."""
    for number in range(8):
        for caption, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
            path = tmp_path / "own[1]" / caption / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", (20, 20), colour)
            image.paste((255, 255, 20 * number), (number, 2, number + 6, 9))
            image.save(path)
    (tmp_path / "own[1]" / "red" / "0.txt").write_text("a red square and more " * 40)
    said = run(f"evaluate own[1] --model {models['flow']} -o [out]/report -n 8 --steps 2")
    assert said.stdout.endswith("[out]/report/report.md\n")
    assert "| own[1], 8 pictures | better | tiny-flow | real |" in said.stdout
    assert "1 images have captions of more than" in said.stdout
    found = json.loads((tmp_path / "[out]" / "report" / "report.json").read_text())
    assert found["retrieval"]["real"]["value"] == 1  # what has the same caption is nearest
    assert found["retrieval"]["drawn"]["of"] == 8
    assert found["sets"][0]["real"]["to_own"]["ssim"] > found["sets"][0]["drawn"]["to_own"]["ssim"]
    with Image.open(tmp_path / "[out]" / "report" / "samples.png") as sheet:
        assert sheet.width > 16 * 64


def test_too_few_pictures_are_no_measure(
    refused: Refusal, models: dict[str, Path], tmp_path: Path
) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    message = refused(f"evaluate {tmp_path} --model {models['flow']}")
    assert message == f"{tmp_path}: has 1 images, at least 12 are needed"
