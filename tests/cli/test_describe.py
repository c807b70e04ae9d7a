"""`tessera describe`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Refusal, Run


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    (tmp_path / "text.png").write_text("hello")


def test_describe_chooses_from_what_is_given(run: Run, models: dict[str, Path]) -> None:
    result = run(f"describe red.png --model {models['gpt']} --label red -l blue")
    shares = re.findall(r"(red|blue) +│ +([\d.]+)%", result.output)
    assert sorted(name for name, _ in shares) == ["blue", "red"]
    assert sum(float(share) for _, share in shares) == pytest.approx(100, abs=0.2)


def test_programs_read_json(run: Run, models: dict[str, Path]) -> None:
    labels = ["[bold]red", "blue " * 8]
    options = [part for label in labels for part in ("--label", label)]
    result = run(["describe", "red.png", f"--model={models['gpt']}", "--json", *options])
    found = json.loads(result.stdout)
    assert (found["model"], type(found["caption"])) == ("tiny-gpt", str)
    assert sorted(each["label"] for each in found["labels"]) == sorted(labels)
    assert sum(each["probability"] for each in found["labels"]) == pytest.approx(1)
    text = run(["describe", "red.png", f"--model={models['gpt']}", *options]).stdout
    assert "[bold]red" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("red.png --model {flow}", "--model tiny-flow cannot describe; none of those"),
        ("text.png --model {gpt}", "text.png is text, not a picture"),
        ("red.png --model {gpt} -l " + "many" * 60, "--label has "),
        ("red.png --model {gpt}" + " -l x" * 65, "--label 65 were given, at most 64 are accepted"),
        ("red.png --model {gpt} --device cuda:99", "--device cuda:99 was given, there is cpu"),
        ("red.png --model nowhere", "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_one_line(
    refused: Refusal, models: dict[str, Path], arguments: str, line: str
) -> None:
    assert refused(f"describe {arguments.format(**models)}").startswith(line)
