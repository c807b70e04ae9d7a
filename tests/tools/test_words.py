"""Everyday words: what is counted must be what was found, and no text may have been trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import emoji
import pytest
from typer.testing import CliRunner

from model.data.emoji import read_records
from model.data.pictures import DataError
from model.data.wording import read_descriptions, read_meanings
from model.evaluation.report import Share
from model.evaluation.sampling import Sampler, natives
from model.loading import load_model
from model.registry import open_checkpoint
from model.request import Picture
from tests.emoji_sets import make_set
from tests.tiny import tiny_flow
from tools import words
from tools.evaluate import evaluation
from tools.words import IN_ENGLISH, IN_OTHERS, KEYWORDS, WordsEvaluation, read_texts

NAMES = {
    "1f34e": "red apple",
    "1f436": "dog face",
    "1f415": "brown dog",
    "1f419": "purple octopus",
    "1f680": "space rocket",
    "1f431": "cat face",
    "1f525": "hot fire",
}
TEXTS = [
    ("a good boy", "en", ["1f436", "1f415"]),
    ("keeps the doctor away", "en", ["1f34e"]),
    ("to the moon", "en", ["1f680", "1f6f8"]),  # one of the two is in no set
    ("what bees make", "en", ["1f36f"]),  # in no set
    ("Hund", "de", ["1f436"]),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set, and a list that asks for some of it."""
    rows = [{"text": text, "lang": lang, "codepoints": symbols} for text, lang, symbols in TEXTS]
    path = tmp_path / "everyday.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setattr(words, "TEXTS", path)
    return make_set(tmp_path / "noto", "noto", NAMES)


class Copyist(Sampler):
    """Draws the real image of a symbol for a prompt that it knows, and a red apple otherwise."""

    def __init__(self, checkpoint: Path, folder: Path, known: dict[str, str]) -> None:
        super().__init__(load_model(open_checkpoint(checkpoint), device="cpu", dtype="fp32"))
        records = read_records([folder])
        pictures = zip(records, natives(self.spec, records), strict=True)
        self._images = {record.codepoints: picture for record, picture in pictures}
        self._known = known

    def draw(
        self,
        prompts: Iterable[str],
        on_step: Callable[[int], None] = lambda steps: None,
        seeds: Iterable[int] | None = None,
    ) -> list[Picture]:
        return [self._images[self._known.get(prompt, "1f34e")] for prompt in prompts]


def test_any_symbol_that_would_do_is_counted(tmp_path: Path, folder: Path) -> None:
    known = {"a good boy, noto style": "1f415", "Hund, noto style": "1f415"}
    sampler = Copyist(tiny_flow(tmp_path / "tiny-flow"), folder, known)
    measured = WordsEvaluation(sampler, [folder], "noto", 100)
    lines = {line.asked: line for line in measured.run()}
    assert lines[IN_ENGLISH].first == Share(2, 3)  # the apple is right once, and no rocket
    assert lines[IN_OTHERS].first == Share(0, 1)  # the other dog was asked for
    train = {r.codepoints for r in read_records([folder]) if r.split == "train"}
    assert lines[KEYWORDS].first == Share(1, len(train))  # an apple for each
    assert measured.steps == 4 * (4 + len(train))


def test_places_are_those_of_symbols(tmp_path: Path, folder: Path) -> None:
    """The top five has five symbols, and says where the right one is."""
    sampler = Copyist(tiny_flow(tmp_path / "tiny-flow"), folder, {})
    measured = WordsEvaluation(sampler, [folder], "noto", 1)
    list(measured.run())
    report = measured.report()
    answers = {answer["text"]: answer for answer in report.figures["answers"]}
    for text, name in (("keeps the doctor away", "red apple"), ("to the moon", "space rocket")):
        nearest, place = answers[text]["nearest"], answers[text]["place"]
        assert len({*nearest}) == 5
        assert (nearest[place - 1] if place else None) == (name if name in nearest else None)
    assert "100.0%" in report.text  # no real image of the set looks like another


def test_a_style_without_images_is_refused(tmp_path: Path, folder: Path) -> None:
    sampler = Sampler(
        load_model(open_checkpoint(tiny_flow(tmp_path / "f")), device="cpu", dtype="fp32")
    )
    with pytest.raises(DataError, match="no image has the style 'blob', there is noto"):
        WordsEvaluation(sampler, [folder], "blob", 1)


def test_a_report_is_written(tmp_path: Path, folder: Path) -> None:
    model, out = tiny_flow(tmp_path / "tiny-flow"), tmp_path / "report"
    command = f"words {folder} --model {model} --style noto -n 2 --steps 1 -o {out}"
    result = CliRunner().invoke(evaluation, command)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {"words.json", "words.md", "words.png"}
    written = json.loads((out / "words.json").read_text())
    assert [line["first"]["of"] for line in written["lines"]] == [3, 1, 2]


def test_the_list_names_symbols_and_repeats_nothing() -> None:
    texts = read_texts()
    known = {
        "_".join(f"{ord(c):04x}" for c in symbol if c != "\ufe0f") for symbol in emoji.EMOJI_DATA
    }
    for text in texts:
        assert text.text == text.text.strip() != ""
        assert text.codepoints, text
        assert {*text.codepoints} <= known, text
        assert len({*text.codepoints}) == len(text.codepoints), text
    assert len({text.text.casefold() for text in texts}) == len(texts)
    assert len({text.lang for text in texts} - {"en"}) == 16


def test_no_text_of_the_list_is_trained_on() -> None:
    """Else what was learned by heart would count as understood."""
    trained = {
        text.casefold()
        for descriptions in read_descriptions().values()
        for texts in descriptions.values()
        for text in texts
    }
    trained |= {text.casefold() for text in read_meanings()}
    assert not [text for text in read_texts() if text.text.casefold() in trained]
