"""*Naming*: does a model say what a picture shows?

It is shown real pictures, also such as were held out of training, and has all captions of the set
to choose from, those of the held-out pictures among them. Its own words count as right where they
are the picture's name in English or Chinese, whatever the article and the style.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model.data.emoji import CHINESE_STYLE, Emoji, Split, read_pictures, read_records, select
from model.data.pictures import DataError
from model.evaluation.quality import native
from model.evaluation.retrieval import SPLITS
from model.evaluation.sampling import choose
from model.evaluation.share import Share
from model.protocol import Description, ImageModel, Picture, RowRequest, Source
from model.sampling import run

TOP = 5


class Describer(ImageModel[Any], Protocol):
    """A model that chooses labels from texts that can be told to it."""

    def know(self, captions: Sequence[str]) -> None:
        """What labels are chosen from, where a request gives none."""


@dataclass(frozen=True, slots=True)
class NamingLine:
    """One figure: which pictures, and how often they were named rightly."""

    style: str
    split: Split
    label: Share  # the most probable label has the name
    labels: Share  # one of the `TOP` most probable ones has it
    words: Share  # the caption is the name


@dataclass(frozen=True, slots=True)
class Named:
    """For people to look at."""

    record: Emoji
    picture: Picture
    description: Description


class NamingEvaluation:
    """Every style and split, ``count`` pictures of each. Raises ``DataError``."""

    def __init__(self, model: Describer, folders: Sequence[Path], count: int) -> None:
        self.model = model
        self.named: list[Named] = []
        records = read_records(folders)
        self._names = {record.caption: record.name for record in records}
        model.know(sorted(self._names))
        chosen = [
            (style, split, choose([r for r in select(records, split) if r.style == style], count))
            for style in sorted({record.style for record in records})
            for split in SPLITS
        ]
        self.plan = [each for each in chosen if each[2]]
        if not self.plan:
            raise DataError("there is no picture to name")

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        return sum(len(records) for *_, records in self.plan) * int(self.model.spec.steps.default)

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[NamingLine]:
        """Shows and scores, one line after the other."""
        for style, split, records in self.plan:
            pictures = [native(self.model.spec, image) for image in read_pictures(records)]
            steps = int(self.model.spec.steps.default)
            requests = [
                RowRequest("", 0, steps, 1.0, operation="describe", source=Source(picture))
                for picture in pictures
            ]
            label, labels, words = 0, 0, 0
            results = run(self.model, requests, on_step)
            for record, picture, found in zip(records, pictures, results, strict=True):
                assert isinstance(found, Description)
                names = [self._names[one.text] for one in found.labels[:TOP]]
                label += names[:1] == [record.name]
                labels += record.name in names
                words += says(found.caption, record)
                self.named.append(Named(record, picture, found))
            count = len(records)
            yield NamingLine(
                style, split, Share(label, count), Share(labels, count), Share(words, count)
            )


def says(caption: str, record: Emoji) -> bool:
    """Whether the caption is the record's name, but for an article and a style."""
    text = _plain(caption)
    styles = [f", {style} style" for style in CHINESE_STYLE]
    styles += [f"，{style}" for style in CHINESE_STYLE.values()]
    for style in map(_plain, styles):
        text = text.removesuffix(style)
    names = [record.name, *([record.chinese] if record.chinese else [])]
    return any(re.fullmatch(f"(an? )?{re.escape(_plain(name))}", text) for name in names)


def _plain(text: str) -> str:
    """As the tokenizer reads it."""
    return unicodedata.normalize("NFKC", text).lower().strip()
