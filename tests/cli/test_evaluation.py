"""``tessera evaluate``: reports are written where they were asked for, or one line says why not."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Refusal, Run
from tests.model.data.test_emoji import make_set


def test_prompts_are_what_is_evaluated_without_a_word(
    run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple", "1f680": "rocket"})
    said = run(f"evaluate {data} --model {models['flow']} -o report -n 8 --steps 2")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.json", "report.md", "samples.png"}
    assert "| noto | train | name, style | 2 |" in said.stdout
    assert said.stdout.endswith("report/report.md\n")
    assert "2 steps" in said.stdout


def test_transforms_are_evaluated(
    run: Run, refused: Refusal, models: dict[str, Path], tmp_path: Path
) -> None:
    """By sha256, 1f305 is one of the symbols whose Fluent image is held out."""
    seen = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    command = f"evaluate transform --model {models['flow']} -o report -n 2 --steps 2"
    assert refused(f"{command} {seen}") == "none of these images is held out of training"
    unseen = make_set(tmp_path / "fluent", "fluent 3d", {"1f305": "a thing"})
    said = run(f"{command} {seen} {unseen}")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"transform.json", "transform.md", "transform.png"}
    assert "2 steps, guidance 1, " in said.stdout  # 1 where it is not given


def test_what_a_model_does_not_do_is_not_evaluated(
    refused: Refusal, models: dict[str, Path], tmp_path: Path
) -> None:
    data = make_set(tmp_path / "noto", "noto", {"1f34e": "red apple"})
    gan = f"--model {models['gan']}"
    assert refused(f"evaluate describe {data} {gan}") == "tiny-gan cannot describe"
    assert "tiny-gan cannot colorize, denoise" in refused(f"evaluate transform {data} {gan}")
    assert refused(f"evaluate {data} {gan} --steps 7").startswith("--steps 7 was given")
    assert "captions.jsonl: missing" in refused(f"evaluate {tmp_path} {gan}")
