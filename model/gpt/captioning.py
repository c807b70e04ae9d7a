"""Images described by a gpt: first a caption, then which labels fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

from model.gpt.config import cost
from model.gpt.passes import CHUNK, GptPasses, KvSlot, reach
from model.gpt.search import Found, Query, Score, Search, Text, Trie, anything, best_of, score_all
from model.gpt.sequence import END, UNKNOWN, Layout
from model.protocol import Description, Label, Pass
from model.request import ImageRequest, Source
from model.runtime.pixels import to_values
from model.spec import ModelSpec
from model.tokenizer import PromptTokenizer

CAPTION_BEAM = 4
"""Beginnings of captions that are followed at once."""

LABELS = 5
"""How many labels are found where none are given."""

LABEL_BEAM = 8
"""Beginnings of labels that are followed at once."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Captioned:
    """What was found: a caption, and labels with their scores, the best first."""

    caption: Text
    labels: list[Found]


def caption_and_label(
    labels: Search, longest: int
) -> Generator[list[Query], list[Score], Captioned]:
    """A search for a caption of at most ``longest`` tokens, and then that for labels."""
    caption = yield from anything(longest, CAPTION_BEAM)
    return Captioned(caption[0].text, (yield from labels))


class RunningSearch(Generic[T]):
    """A search whose queries are answered in any order. ``found`` is None until it is over."""

    def __init__(self, search: Generator[list[Query], list[Score], T]) -> None:
        self.found: T | None = None
        self._search = search
        self._queries: deque[tuple[int, Query]] = deque()
        self._scores: list[Score | None] = []
        self._expect(next(search))

    def query(self) -> tuple[int, Query] | None:
        """The next text to be scored, and the number of its answer; None: answers are due."""
        return self._queries.popleft() if self._queries else None

    def answer(self, number: int, score: Score) -> None:
        """The score of a text. With the last of them the search goes on, or is over."""
        self._scores[number] = score
        scores = [known for known in self._scores if known is not None]
        if len(scores) == len(self._scores):
            try:
                self._expect(self._search.send(scores))
            except StopIteration as end:
                self.found = end.value

    def _expect(self, queries: list[Query]) -> None:
        self._queries.extend(enumerate(queries))
        self._scores = [None] * len(queries)


@dataclass(slots=True)
class Scoring:
    """A text on its way through a KV slot, chunk by chunk."""

    number: int
    query: Query
    waiting: Tensor  # [n, per_position]: what is yet to be scored of the text
    written: int = 0
    own: float = 0.0

    def targets(self, count: int) -> list[int]:
        """What comes after each of the next ``count`` positions."""
        end = END if self.query.ended else UNKNOWN
        return [*self.query.text, end][self.written : self.written + count]

    def advance(self, count: int, own: float, following: Tensor) -> Score | None:
        """``count`` positions were scored ``own``; the text's score after the last of them."""
        self.written += count
        self.own += own
        self.waiting = self.waiting[count:]
        return None if len(self.waiting) else Score(self.own, following.clone())


@dataclass(slots=True, eq=False)
class CaptioningRow:
    """An image being described. Each KV slot holds it, and scores one text after the other."""

    slots: list[KvSlot]
    source: Source
    search: RunningSearch[Captioned]
    names: Mapping[Text, str]  # of the labels
    layout: Layout
    steps: int  # more than it takes, or less: how many it takes is known only when it is done
    encoded: bool = False  # whether the codes of its source are known
    scoring: dict[KvSlot, Scoring] = field(default_factory=dict)
    step: int = 0

    def __post_init__(self) -> None:
        self._assign()

    @property
    def done(self) -> bool:
        return self.search.found is not None

    @property
    def kind(self) -> Literal["encode", "prefill", "score"]:
        if not self.encoded:
            return "encode"
        return "score" if all(slot.filled for slot in self.slots) else "prefill"

    @property
    def evaluations(self) -> int:
        match self.kind:
            case "encode":
                return 1
            case "prefill":
                return len(self.slots)
            case "score":
                return len(self.scoring)

    def receive(self, slot: KvSlot, count: int, own: float, following: Tensor) -> None:
        """What a pass found for ``count`` positions of the text in ``slot``."""
        scoring = self.scoring[slot]
        score = scoring.advance(count, own, following)
        if score is not None:
            del self.scoring[slot]
            self.search.answer(scoring.number, score)

    def advance(self) -> None:
        """A step is over."""
        self._assign()
        self.step = self.steps if self.done else min(self.step + 1, self.steps - 1)

    def _assign(self) -> None:
        for slot in self.slots:
            if slot not in self.scoring and (queried := self.search.query()):
                number, query = queried
                self.scoring[slot] = Scoring(number, query, self.layout.text(query.text))


class Captioning:
    """Starts such rows and makes their passes."""

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: PromptTokenizer,
        captions: Mapping[Text, str],
        passes: GptPasses,
    ) -> None:
        """``captions`` as `know` takes them."""
        self._longest = spec.max_prompt_tokens
        self._tokenizer = tokenizer
        self._passes, self._layout, self._slots = passes, passes.layout, passes.slots
        self.know(captions)

    def know(self, captions: Mapping[Text, str]) -> None:
        """Sets what labels are chosen from where a request gives none, by their tokens."""
        self._captions = captions
        self._trie = Trie.of(captions)

    def start(self, request: ImageRequest) -> CaptioningRow:
        """A row; its KV slots are allocated. Raises ``PromptTooLong`` for a label."""
        assert request.source is not None
        names = {
            tuple(self._tokenizer.within(label, self._longest)): label
            for label in reversed(request.labels)
        }
        labels = score_all(list(names)) if names else best_of(self._trie, LABEL_BEAM, LABELS)
        indices = self._slots.allocate(cost(request))
        return CaptioningRow(
            slots=[KvSlot.empty(index, 0, self._layout.no_ids()) for index in indices],
            source=request.source,
            search=RunningSearch(caption_and_label(labels, self._longest)),
            names=names or self._captions,
            layout=self._layout,
            steps=self._layout.places,
        )

    def encode(self, row: CaptioningRow) -> None:
        """A pass: the codes of its source, all of which are prefilled."""
        ids = self._layout.image(self._passes.codes_of(to_values(row.source.picture)))
        for slot in row.slots:
            slot.waiting = ids
        row.encoded = True

    def score(self, rows: Sequence[CaptioningRow]) -> Pass:
        """A pass: the next chunk of each text that is being scored."""
        inputs = self._passes.score.inputs()
        inputs.positions.fill_(self._passes.scratch)
        inputs.targets.fill_(UNKNOWN)
        for row in rows:
            for slot, scoring in row.scoring.items():
                index, count = slot.index, min(CHUNK, len(scoring.waiting))
                begin = slot.position + scoring.written
                inputs.ids[index, :count] = scoring.waiting[:count]
                inputs.positions[index, :count] = torch.arange(begin, begin + count)
                inputs.first[index] = slot.first
                inputs.targets[index, :count] = torch.tensor(scoring.targets(count))
                inputs.last[index] = count - 1
        slots = [slot for row in rows for slot in row.scoring]
        own, following = self._passes.score.fetch(reach(slots))
        for row in rows:
            for slot, scoring in tuple(row.scoring.items()):
                count = min(CHUNK, len(scoring.waiting))
                row.receive(slot, count, float(own[slot.index]), following[slot.index])
            row.advance()
        return Pass("score", len(slots), self._passes.score.size)

    def description(self, row: CaptioningRow) -> Description:
        """Of a row that is done."""
        found = row.search.found
        assert found is not None
        scores = torch.tensor([label.score for label in found.labels], dtype=torch.float64)
        labels = tuple(
            Label(row.names[label.text], probability)
            for label, probability in zip(found.labels, scores.softmax(0).tolist(), strict=True)
        )
        return Description(self._tokenizer.text(found.caption), labels)
