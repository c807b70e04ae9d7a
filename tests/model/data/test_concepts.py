"""Numbers of concepts: a wrong one would teach a flow to draw another symbol or style."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.data.concepts import NOTHING, Concepts, Numbers, says_style
from model.data.emoji import Emoji
from model.data.pictures import DataError

DOG = Emoji(
    folder=Path("sets/noto"),
    file="1f436.webp",
    codepoints="1f436",
    name="dog face",
    keywords=("dog",),
    tones=(),
    base="1f436",
    style="noto",
    duplicate_of=None,
    chinese="狗脸",
)
FLUENT_DOG = replace(DOG, style="fluent flat")
PAIR = replace(DOG, codepoints="1faf1", base="1faf1", tones=("dark", "light"))
HAND = replace(DOG, codepoints="270b", base="270b", tones=("dark",))
RECORDS = [PAIR, DOG, HAND, FLUENT_DOG]


def test_each_kind_is_numbered_from_one() -> None:
    concepts = Concepts.of(RECORDS)
    assert concepts.counts == (4, 3, 3)
    assert concepts.numbers(DOG) == Numbers(symbol=1, tone=0, style=2)
    assert concepts.numbers(FLUENT_DOG) == Numbers(symbol=1, tone=0, style=1)
    assert concepts.numbers(HAND) == Numbers(symbol=3, tone=1, style=2)
    assert concepts.numbers(PAIR) == Numbers(symbol=2, tone=2, style=2)
    assert NOTHING not in map(concepts.numbers, RECORDS)
    assert Concepts.of(reversed(RECORDS)) == concepts


@pytest.mark.parametrize(
    "unknown",
    [
        replace(DOG, base="1f431"),
        replace(DOG, tones=("medium",)),
        replace(DOG, style="blob"),
    ],
)
def test_an_image_of_unknown_concepts_is_named(unknown: Emoji) -> None:
    with pytest.raises(DataError, match=r"sets/noto: 1f436\.webp: '.+' is no symbol"):
        Concepts.of(RECORDS).numbers(unknown)


def test_they_are_kept_beside_a_checkpoint(tmp_path: Path) -> None:
    concepts = Concepts.of(RECORDS)
    concepts.save(tmp_path / "new")
    assert Concepts.load(tmp_path / "new") == concepts


def test_a_prompt_says_its_style_or_does_not() -> None:
    assert says_style("dog face, noto style", DOG)
    assert says_style("noto dog face", DOG)
    assert says_style("狗脸，noto 风格", DOG)
    assert says_style("狗脸，fluent 扁平风格", FLUENT_DOG)
    assert says_style("dog face in fluent flat style", FLUENT_DOG)
    assert not says_style("dog face", DOG)
    assert not says_style("狗脸", FLUENT_DOG)
    assert not says_style("", DOG)
    assert not says_style("sensational", replace(DOG, style="sensa"))
