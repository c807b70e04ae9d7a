"""``tessera evaluate``: reports are written where they were asked for, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    assert "captions.jsonl: missing" in refused(f"evaluate {tmp_path} {gan}")
