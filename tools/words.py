"""*Words*: does a model draw what people ask for in their own words?

``everyday.jsonl`` has a text a line, its language, and the symbols of which each would do. Texts
were written before a model was trained on descriptions (`model.data.wording`) and without sight of
these; those that turned out to be among them were removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.emoji import Emoji, read_records, select
from model.data.pictures import DataError
from model.data.wording import ENGLISH
from model.evaluation.report import Report, Share, plain, table
from model.evaluation.retrieval import PHRASINGS, Gallery, thumbnail
from model.evaluation.sampling import Sampler, choose_records
from model.request import Picture
from model.training.sheet import contact_sheet, to_image

TEXTS = Path(__file__).parent / "everyday.jsonl"
TOP = 5
SHOWN = 24
IN_ENGLISH, IN_OTHERS = "everyday words, English", "everyday words, other languages"
KEYWORDS = "two keywords, style"


@dataclass(frozen=True, slots=True)
class Text:
    """One line of the list."""

    text: str
    lang: str
    codepoints: tuple[str, ...]  # `Emoji.base` of each symbol that would do


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt, and the real images of which each would do."""

    text: str  # without the style
    prompt: str
    wanted: tuple[Emoji, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was drawn for a query."""

    query: Query
    picture: Picture
    nearest: tuple[Emoji, ...]  # real images, of `TOP` different symbols
    place: int | None  # of the first that would do, from 1; None where it is not among them


@dataclass(frozen=True, slots=True)
class WordsLine:
    """One figure: how images were asked for, and how often they were found."""

    asked: str
    first: Share  # the nearest symbol would do
    top: Share  # one of the `TOP` nearest would do

    def __str__(self) -> str:
        return f"{self.asked}: {self.first}, among {TOP} {self.top}"


class WordsEvaluation:
    """All texts with a symbol in ``style``, and ``count`` prompts of two keywords.

    Skin tones count for nothing, as no text names one. Raises `DataError`.
    """

    def __init__(self, sampler: Sampler, folders: Sequence[Path], style: str, count: int) -> None:
        self._sampler = sampler
        self._style = style
        records = read_records(folders)
        styles = sorted({record.style for record in records})
        if style not in styles:
            raise DataError(f"no image has the style {style!r}, there is {', '.join(styles)}")
        self._gallery = Gallery([record for record in records if record.style == style])
        self._plan = {asked: queries for asked, queries in _plan(records, style, count) if queries}
        if not self._plan:
            raise DataError(f"no text asks for a symbol that is there in the style {style!r}")
        self._answers: dict[str, list[Answer]] = {}
        self._lines: list[WordsLine] = []

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        return sum(map(len, self._plan.values())) * self._sampler.steps

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[WordsLine]:
        """Draws and scores, one line after the other."""
        for asked, queries in self._plan.items():
            drawn = self._sampler.draw([query.prompt for query in queries], on_step)
            answers = [self._answer(*pair) for pair in zip(queries, drawn, strict=True)]
            first = sum(answer.place == 1 for answer in answers)
            top = sum(answer.place is not None for answer in answers)
            line = WordsLine(asked, Share(first, len(answers)), Share(top, len(answers)))
            self._answers[asked] = answers
            self._lines.append(line)
            yield line

    def _answer(self, query: Query, picture: Picture) -> Answer:
        nearest = self._gallery.ranking(thumbnail(to_image(picture)), self._style, TOP)
        places = [
            place
            for place, found in enumerate(nearest, 1)
            if any(self._gallery.shows(found, wanted) for wanted in query.wanted)
        ]
        return Answer(query, picture, tuple(nearest), places[0] if places else None)

    def report(self) -> Report:
        """Of what `run` has found."""
        ceiling = self._gallery.ceiling(self._style)
        head = ("prompt", "n", "nearest real is one asked for", f"one of the {TOP} nearest is")
        rows = [
            (line.asked, str(line.first.of), str(line.first), str(line.top)) for line in self._lines
        ]
        alone = f"Real images of this style that no other looks like: {ceiling}."
        answers = [
            {
                "asked": asked,
                "text": answer.query.text,
                "place": answer.place,
                "nearest": [record.name for record in answer.nearest],
            }
            for asked, answers in self._answers.items()
            for answer in answers
        ]
        shown = self._shown()
        return Report(
            name="words",
            spec=self._sampler.spec,
            how=f"{self._style} style, {self._sampler}",
            tables=[table(head, "lrrr", rows), alone],
            figures={
                **self._sampler.as_json(),
                "style": self._style,
                "lines": plain(self._lines),
                "real images that stand alone": plain(ceiling),
                "answers": answers,
            },
            sheet=contact_sheet(
                [answer.picture for answer in shown],
                [f"{x.query.text}: {x.query.wanted[0].name}" for x in shown],
            ),
            shows="some of what was drawn, and for which words",
            file="words.png",
        )

    def _shown(self) -> list[Answer]:
        """Spread over all everyday texts, or over keywords where there is no other."""
        texts = [x for asked, given in self._answers.items() if asked != KEYWORDS for x in given]
        answers = texts or self._answers[KEYWORDS]
        count = min(SHOWN, len(answers))
        return [answers[index * len(answers) // count] for index in range(count)]


def read_texts() -> list[Text]:
    """The list, in order."""
    rows = map(json.loads, TEXTS.read_text("utf-8").splitlines())
    return [Text(row["text"], row["lang"], tuple(row["codepoints"])) for row in rows]


def _plan(records: Sequence[Emoji], style: str, count: int) -> Iterator[tuple[str, list[Query]]]:
    """Queries by how they ask."""
    symbols = {r.base: r for r in records if r.style == style and not r.tones}
    texts: dict[str, list[Query]] = {IN_ENGLISH: [], IN_OTHERS: []}
    for text in read_texts():
        if wanted := tuple(symbols[base] for base in text.codepoints if base in symbols):
            asked = IN_ENGLISH if text.lang == ENGLISH else IN_OTHERS
            texts[asked].append(Query(text.text, f"{text.text}, {style} style", wanted))
    yield from texts.items()
    seen = [r for r in select(records, "train") if r.style == style and not r.tones]
    several = choose_records([r for r in seen if len(r.keywords) > 1], count)
    yield KEYWORDS, [_by_keywords(record) for record in several]


def _by_keywords(record: Emoji) -> Query:
    return Query(", ".join(record.keywords[:2]), PHRASINGS[KEYWORDS](record), (record,))
