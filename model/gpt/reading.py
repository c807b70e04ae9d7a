"""A picture being read: first its caption, then which labels fit it. Runs no network."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor

from model.gpt.lanes import Kind, Lane
from model.gpt.search import Ask, Found, Search, Text, Weight, anything
from model.gpt.sequence import END, UNKNOWN, Layout
from model.protocol import Source

CAPTION_BEAM = 4
"""Beginnings of captions that are followed at once."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found: a caption, and labels with their weights, the heaviest first."""

    caption: Text
    labels: list[Found]


def read(labels: Search, longest: int) -> Generator[list[Ask], list[Weight], Reading]:
    """A search for a caption of at most ``longest`` tokens, and then that for labels."""
    caption = yield from anything(longest, CAPTION_BEAM)
    return Reading(caption[0].text, (yield from labels))


class Inquiry(Generic[T]):
    """A search, asked and answered in any order. ``found`` is None until it is over."""

    def __init__(self, search: Generator[list[Ask], list[Weight], T]) -> None:
        self.found: T | None = None
        self._search = search
        self._asked: deque[tuple[int, Ask]] = deque()
        self._answers: list[Weight | None] = []
        self._expect(next(search))

    def ask(self) -> tuple[int, Ask] | None:
        """The next text to be weighed, and the number of its answer; None: answers are due."""
        return self._asked.popleft() if self._asked else None

    def answer(self, number: int, weight: Weight) -> None:
        """What a text weighs. With the last of them the search goes on, or is over."""
        self._answers[number] = weight
        weights = [one for one in self._answers if one is not None]
        if len(weights) == len(self._answers):
            try:
                self._expect(self._search.send(weights))
            except StopIteration as end:
                self.found = end.value

    def _expect(self, asks: list[Ask]) -> None:
        self._asked.extend(enumerate(asks))
        self._answers = [None] * len(asks)


@dataclass(slots=True)
class Weighing:
    """A text on its way through a lane, chunk by chunk."""

    number: int
    ask: Ask
    waiting: Tensor  # [n, bag]: what is yet to be fed of the text
    fed: int = 0
    own: float = 0.0

    def targets(self, count: int) -> list[int]:
        """What comes after each of the next ``count`` positions."""
        end = END if self.ask.ended else UNKNOWN
        return [*self.ask.text, end][self.fed : self.fed + count]

    def heard(self, count: int, own: float, following: Tensor) -> Weight | None:
        """``count`` positions were fed, their targets weigh ``own``; its weight after the last."""
        self.fed += count
        self.own += own
        self.waiting = self.waiting[count:]
        return None if len(self.waiting) else Weight(self.own, following.clone())


@dataclass(slots=True, eq=False)
class ReadingRow:
    """A picture being described. Each lane holds it, and is fed one text after the other."""

    lanes: list[Lane]
    source: Source
    inquiry: Inquiry[Reading]
    names: Mapping[Text, str]  # of the labels
    layout: Layout
    steps: int  # more than it takes, or less: how many it takes is known only when it is done
    encoded: bool = False  # whether the codes of its source are known
    weighing: dict[Lane, Weighing] = field(default_factory=dict)
    step: int = 0

    def __post_init__(self) -> None:
        self._ask()

    @property
    def done(self) -> bool:
        return self.inquiry.found is not None

    @property
    def kind(self) -> Kind:
        if not self.encoded:
            return "encode"
        return "feed" if any(len(lane.waiting) for lane in self.lanes) else "read"

    @property
    def evaluations(self) -> int:
        match self.kind:
            case "encode":
                return 1
            case "feed":
                return len(self.lanes)
            case _:
                return len(self.weighing)

    def hear(self, lane: Lane, count: int, own: float, following: Tensor) -> None:
        """What a pass found for ``count`` positions of the text in ``lane``."""
        weighing = self.weighing[lane]
        weight = weighing.heard(count, own, following)
        if weight is not None:
            del self.weighing[lane]
            self.inquiry.answer(weighing.number, weight)

    def advance(self) -> None:
        """A step is over."""
        self._ask()
        self.step = self.steps if self.done else min(self.step + 1, self.steps - 1)

    def _ask(self) -> None:
        for lane in self.lanes:
            if lane not in self.weighing and (asked := self.inquiry.ask()):
                number, ask = asked
                self.weighing[lane] = Weighing(number, ask, self.layout.text(ask.text))
