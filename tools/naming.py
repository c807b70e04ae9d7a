"""*Naming*: does a model say what an image shows?

It is shown real images, also such as were held out of training, and has all captions of the set to
choose from, those of the held-out images among them. Its own words count as right where they are
the image's name in English or Chinese, whatever the article and the style.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model.data.emoji import CHINESE_STYLE, Emoji, Split, read_records, select
from model.data.pictures import DataError
from model.evaluation.report import Report, Share, plain, table
from model.evaluation.retrieval import SPLITS
from model.evaluation.sampling import choose_records, natives, steps_of
from model.protocol import Description, ImageModel
from model.request import ImageRequest, Picture, Source
from model.runtime.generate import run
from model.training.sheet import contact_sheet

TOP = 5
SHOWN = 24  # images with what was said of them, spread over all lines


class Describer(ImageModel[Any], Protocol):
    """A model that chooses labels from texts that can be set."""

    def know(self, captions: Sequence[str]) -> None:
        """Sets what labels are chosen from, where a request gives none."""


@dataclass(frozen=True, slots=True)
class NamingLine:
    """One figure: which images, and how often they were named rightly."""

    style: str
    split: Split
    label: Share  # the most probable label has the name
    labels: Share  # one of the `TOP` most probable ones has it
    words: Share  # the caption is the name

    def __str__(self) -> str:
        return f"{self.style}, {self.split}: first label {self.label}, caption {self.words}"


class NamingEvaluation:
    """Every style and split, ``count`` images of each. Raises ``DataError``."""

    def __init__(self, model: Describer, folders: Sequence[Path], count: int) -> None:
        self._model = model
        self._lines: list[NamingLine] = []
        self._described: list[tuple[Picture, str]] = []
        records = read_records(folders)
        self._names = {record.caption: record.name for record in records}
        model.know(sorted(self._names))
        chosen = [
            (style, split, choose_records(_of(records, split, style), count))
            for style in sorted({record.style for record in records})
            for split in SPLITS
        ]
        self._plan = [part for part in chosen if part[2]]
        if not self._plan:
            raise DataError("there is no image to name")

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        _, _, records = self._plan[0]
        [request] = self._requests(records[:1])
        return sum(len(records) for *_, records in self._plan) * steps_of(self._model, request)

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[NamingLine]:
        """Shows and scores, one line after the other."""
        for style, split, records in self._plan:
            requests = self._requests(records)
            label, labels, words = 0, 0, 0
            results = run(self._model, requests, on_step)
            for record, request, found in zip(records, requests, results, strict=True):
                assert isinstance(found, Description)
                assert request.source is not None
                names = [self._names[said.text] for said in found.labels[:TOP]]
                label += names[:1] == [record.name]
                labels += record.name in names
                words += says(found.caption, record)
                self._described.append((request.source.picture, found.caption))
            shares = (Share(hits, len(records)) for hits in (label, labels, words))
            line = NamingLine(style, split, *shares)
            self._lines.append(line)
            yield line

    def report(self) -> Report:
        """Of what `run` has found."""
        head = ("style", "pictures", "n", "first label", f"one of {TOP} labels", "caption")
        rows = [
            (
                *(line.style, line.split, str(line.label.of)),
                *(str(line.label), str(line.labels), str(line.words)),
            )
            for line in self._lines
        ]
        shown = self._described[:: max(1, len(self._described) // SHOWN)][:SHOWN]
        return Report(
            name="describe",
            spec=self._model.spec,
            how="",
            tables=[table(head, "llrlll", rows)],
            figures={"lines": plain(self._lines)},
            sheet=contact_sheet([p for p, _ in shown], [caption or "—" for _, caption in shown]),
            shows="some, and what was said of them",
            file="describe.png",
        )

    def _requests(self, records: Sequence[Emoji]) -> list[ImageRequest]:
        spec = self._model.spec
        return [
            spec.request(operation="describe", source=Source(picture))
            for picture in natives(spec, records)
        ]


def says(caption: str, record: Emoji) -> bool:
    """Whether the caption is the record's name, but for an article and a style."""
    text = _normal(caption)
    styles = [f", {style} style" for style in CHINESE_STYLE]
    styles += [f"，{style}" for style in CHINESE_STYLE.values()]
    for style in map(_normal, styles):
        text = text.removesuffix(style)
    names = [record.name, *([record.chinese] if record.chinese else [])]
    return any(re.fullmatch(f"(an? )?{re.escape(_normal(name))}", text) for name in names)


def _normal(text: str) -> str:
    """As the tokenizer reads it."""
    return unicodedata.normalize("NFKC", text).lower().strip()


def _of(records: Sequence[Emoji], split: Split, style: str) -> list[Emoji]:
    return [record for record in select(records, split) if record.style == style]
