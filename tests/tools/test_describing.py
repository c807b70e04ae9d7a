"""The figures of a gpt: they must say what they claim, or a bad checkpoint would ship."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model.data.emoji import Emoji
from model.evaluation.report import Share
from model.evaluation.retrieval import RetrievalEvaluation
from model.evaluation.sampling import Sampler
from model.gpt.codec import Codec
from model.gpt.codec_training import codec_of
from model.gpt.config import CodecCheckpointConfig, CodecConfig
from model.loading import load_model, save_checkpoint
from model.protocol import Description, Label, Pass
from model.registry import open_checkpoint
from model.request import ImageRequest, Picture
from model.runtime.rungs import Rungs
from model.sizes import Sizes
from model.spec import ModelSpec
from tests.emoji_sets import make_set
from tests.tiny import tiny_gpt
from tools.evaluate import evaluation
from tools.naming import NamingEvaluation, says
from tools.reconstruction import CodecEvaluation

NAMES = {"1f34e": "red apple", "1f680": "rocket", "1f436": "dog face", "1f419": "octopus"}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [make_set(tmp_path / "noto", "noto", NAMES)]


def record(name: str, chinese: str | None = None) -> Emoji:
    return Emoji(Path(), "", "", name, (), (), "", "noto", None, chinese)


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("red apple", True),
        ("red apple, noto style", True),
        ("a red apple, fluent 3d style", True),
        ("红苹果，noto 风格", True),
        ("红苹果", True),
        ("Red  apple".lower(), False),
        ("green apple, noto style", False),
        ("red apple pie", False),
        ("", False),
    ],
)
def test_a_caption_is_right_where_it_is_the_name(caption: str, right: bool) -> None:
    assert says(caption, record("Red apple", "红苹果")) is right


class Parrot:
    """Knows one picture: says "rocket" whatever it sees, and doubts between it and "octopus"."""

    tile = 4
    slots = tile
    rungs = Rungs(tile, smaller=False)
    spec = ModelSpec(
        id="parrot",
        family="gpt",
        sizes=Sizes(16, 16),
        channels=4,
        parameters=(),
        operations=("describe",),
        max_prompt_tokens=48,
        digest="digest",
        license="Apache-2.0",
        description="a parrot",
    )

    def __init__(self) -> None:
        self.known: list[str] = []

    def know(self, captions: Sequence[str]) -> None:
        self.known = list(captions)

    def cost(self, request: ImageRequest) -> int:
        return 1

    def capacity(self, kind: str) -> int:
        return self.tile

    def start(self, request: ImageRequest) -> Any:
        return _Said()

    def step(self, rows: Sequence[Any]) -> list[Pass]:
        for row in rows:
            row.step, row.done = 1, True
        return [Pass("read", len(rows), self.tile)]

    def preview(self, row: Any) -> None: ...

    def result(self, row: Any) -> Description:
        words = ("rocket, noto style", "octopus, noto style")
        return Description("a rocket", tuple(Label(word, 0.5) for word in words))

    def release(self, row: Any) -> None: ...


class _Said:
    kind, evaluations, steps = "read", 1, 1

    def __init__(self) -> None:
        self.step, self.done = 0, False


def test_names_are_counted(folders: list[Path], tmp_path: Path) -> None:
    parrot = Parrot()
    evaluation = NamingEvaluation(parrot, folders, count=10)
    assert parrot.known == sorted(f"{name}, noto style" for name in NAMES.values())
    lines = list(evaluation.run())
    found = [(line.label, line.labels, line.words) for line in lines]
    assert found == [(Share(1, 4), Share(2, 4), Share(1, 4))]
    evaluation.report().write(tmp_path / "report")
    written = json.loads((tmp_path / "report" / "describe.json").read_text())
    interval = [0.15004, 0.84996]
    assert written["lines"][0]["labels"] == {"hits": 2, "of": 4, "value": 0.5, "interval": interval}
    assert "| noto | train | 4 | 25.0%" in (tmp_path / "report" / "describe.md").read_text()
    assert (tmp_path / "report" / "describe.png").stat().st_size > 500


def test_what_a_codec_keeps_is_measured(folders: list[Path]) -> None:
    shape = CodecConfig(image_size=16, patch_size=4, width=32, heads=2, levels=(4, 3))
    [line] = CodecEvaluation(Codec(shape), folders).run()
    assert line.of == 4
    assert 0 < line.kept.psnr < 20  # untrained: everything comes back as grey
    assert 0 < line.used <= 1
    assert 1 <= line.perplexity <= 12


def test_the_commands_write_and_say_it(folders: list[Path], tmp_path: Path) -> None:
    gpt = tiny_gpt(tmp_path / "tiny-gpt")
    codec = codec_of(gpt)
    config = CodecCheckpointConfig(description="", license="", network=codec.config)
    save_checkpoint(tmp_path / "codec", config, codec.state_dict())
    runner, data = CliRunner(), str(folders[0])
    tables = []
    for folder in (gpt, tmp_path / "codec"):
        result = runner.invoke(evaluation, ["codec", data, "--model", str(folder)])
        assert result.exit_code == 0, result.output
        tables.append(result.stdout)
    assert "| train | 4 |" in tables[0]
    assert tables[0] == tables[1]
    result = runner.invoke(
        evaluation,
        ["describe", data, "--model", str(gpt), "-o", str(tmp_path / "out"), "-n", "2"],
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "describe.md").is_file()
    result = runner.invoke(evaluation, ["codec", data, "--model", str(tmp_path)])
    assert result.exit_code == 1
    assert "config.json: missing" in result.output


def test_retrieval_takes_a_gpt_as_it_takes_a_flow(folders: list[Path], tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_gpt(tmp_path / "tiny-gpt"))
    model = load_model(checkpoint, device="cpu", dtype="fp32", tile=8)
    evaluation = RetrievalEvaluation(Sampler(model, {"guidance": 2}), folders, count=8)
    lines = list(evaluation.run())
    assert lines[0].retrieval.of == 4
    assert isinstance(evaluation.drawn["noto", "train"][0][1], Picture)
