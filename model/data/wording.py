"""What people call a symbol: names and keywords in many languages, ``words.jsonl.gz``.

One line for each symbol and language: ``codepoints`` (as in the emoji sets), ``lang``, ``name``,
``keywords`` and perhaps ``more``, further words. A keyword that few symbols share says more than
one that many do ("puppy" and "face" for the dog), so it is drawn more often. One that by itself
means another symbol (``meanings.tsv``: "coffee", for the brown heart) is hardly drawn.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.pictures import DataError

WORDS = "words.jsonl.gz"

ENGLISH, CHINESE = "en", "zh"

HARDLY = 0.1
"""The weight of a word that by itself means another symbol."""

PAIRS = ("{} {}", "{} {}", "a {} {}", "{} and {}", "{} with {}", "the {} {}")
SINGLES = (
    "{}",
    "{}",
    "a {}",
    "the {}",
    "{} emoji",
    "a picture of {}",
    "a drawing of {}",
    "draw {}",
)


@dataclass(frozen=True, slots=True)
class Words:
    """What one language calls a symbol."""

    name: str
    keywords: tuple[str, ...]
    weights: tuple[float, ...]  # how often each keyword is drawn, relative to the others

    def some(self, draw: random.Random, count: int) -> list[str]:
        """At most ``count`` different keywords (Efraimidis and Spirakis 2006)."""
        keyed = [
            (draw.random() ** (1 / weight), word)
            for word, weight in zip(self.keywords, self.weights, strict=True)
        ]
        return [word for _, word in sorted(keyed, reverse=True)[:count]]


Wording = Mapping[str, Words]
"""By language."""

Meanings = Mapping[str, str]
"""The code points of the one symbol that an English word or two mean to most people who ask."""

Descriptions = Mapping[str, tuple[str, ...]]
"""A symbol as people might ask for it who do not know its name, by language."""


def single(word: str, draw: random.Random) -> str:
    """One word, as somebody might type it."""
    return draw.choice(SINGLES).format(word)


def phrase(words: Words, draw: random.Random) -> str:
    """A few keywords, or keywords and the name, as somebody might type them."""
    found = words.some(draw, 2) or [words.name]
    if len(found) == 1 or draw.random() < 0.4:
        return single(found[0], draw)
    if draw.random() < 0.3:
        found[draw.randrange(2)] = words.name
    return draw.choice(PAIRS).format(*found)


def read_wordings(path: Path) -> dict[str, Wording]:
    """By code points. Raises `DataError` naming the file that is broken, or has no English."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        keywords = [_keywords(row) for row in rows]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}") from error
    shared = Counter(
        (row["lang"], word) for row, words in zip(rows, keywords, strict=True) for word in words
    )
    wordings: dict[str, dict[str, Words]] = defaultdict(dict)
    meanings = read_meanings()
    for row, words in zip(rows, keywords, strict=True):
        symbol, language = row["codepoints"], row["lang"]
        weights = tuple(
            shared[language, word] ** -0.5
            * (HARDLY if language == ENGLISH and means_another(word, symbol, meanings) else 1)
            for word in words
        )
        wordings[symbol][language] = Words(row["name"], words, weights)
    if silent := next((symbol for symbol in wordings if ENGLISH not in wordings[symbol]), None):
        raise DataError(f"{path}: {silent} has no line whose lang is {ENGLISH!r}")
    return dict(wordings)


def read_meanings() -> Meanings:
    """Our own choice among the symbols that share a word, and words that no list has."""
    lines = (Path(__file__).parent / "meanings.tsv").read_text("utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def means_another(word: str, codepoints: str, meanings: Meanings) -> bool:
    """Whether the word by itself is another symbol's."""
    return meanings.get(word.lower(), codepoints) != codepoints


def read_descriptions() -> dict[str, Descriptions]:
    """Our own everyday wordings of a symbol, by its code points."""
    lines = (Path(__file__).parent / "descriptions.jsonl").read_text("utf-8").splitlines()
    return {
        row.pop("codepoints"): {language: tuple(texts) for language, texts in row.items()}
        for row in map(json.loads, lines)
    }


def _keywords(row: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Each once. Skin tones are left out: they are said whole or not at all."""
    words = (word.strip() for word in (*row["keywords"], *row.get("more", ())))
    return tuple(dict.fromkeys(word for word in words if word and "skin tone" not in word))
