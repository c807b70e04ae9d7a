"""Which text fits an image best: searches that say what to score next, and are sent the scores.

A search is a generator: it yields the texts to be scored (`Query`), is sent the `Score` of each, in
that order, and returns its `Found` texts, the likeliest first. So one search needs no more than one
evaluation of a batch at a time, and shares it with whatever else runs. Scores are natural
logarithms of probabilities.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from torch import Tensor

from model.gpt.sequence import END

Text = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A text to be scored; ``ended`` if it has to end there."""

    text: Text
    ended: bool


@dataclass(frozen=True, slots=True)
class Score:
    """Of a text: its own score, and that of every token (and of the end) that may follow."""

    own: float
    following: Tensor  # [V]


@dataclass(frozen=True, slots=True)
class Found:
    """A whole text and its score."""

    text: Text
    score: float


Search = Generator[list[Query], list[Score], list[Found]]


@dataclass(slots=True)
class Trie:
    """Texts by their beginnings. A node's branches are the tokens that may follow."""

    ends: bool = False
    branches: dict[int, Trie] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[Text]) -> Trie:
        root = cls()
        for text in texts:
            node = root
            for token in text:
                node = node.branches.setdefault(token, cls())
            node.ends = True
        return root

    def straight(self) -> tuple[Text, Trie]:
        """As far as there is no choice: the tokens, and the node after them."""
        text: list[int] = []
        node = self
        while not node.ends and len(node.branches) == 1:
            [(token, node)] = node.branches.items()
            text.append(token)
        return tuple(text), node


@dataclass(frozen=True, slots=True)
class _Branch:
    """A text that may go on, and a bound that its whole texts cannot exceed."""

    text: Text
    bound: float
    node: Trie | None = None  # what may follow; None: anything


def score_all(texts: Sequence[Text]) -> Search:
    """Every one of these texts."""
    scores = yield [Query(text, ended=True) for text in texts]
    found = [Found(text, score.own) for text, score in zip(texts, scores, strict=True)]
    return sorted(found, key=lambda text: -text.score)


def best_of(trie: Trie, width: int, count: int) -> Search:
    """The likeliest ``count`` texts of a trie, by a beam of ``width`` beginnings.

    Where there is no choice, a beginning is prolonged to the next one before it is scored.
    """
    text, node = trie.straight()
    beam = [_Branch(text, 0.0, node)]
    found: list[Found] = []
    while beam:
        scores = yield [Query(branch.text, ended=False) for branch in beam]
        longer: list[_Branch] = []
        for branch, score in zip(beam, scores, strict=True):
            assert branch.node is not None
            if branch.node.ends:
                found.append(Found(branch.text, score.own + float(score.following[END])))
            for token, node in branch.node.branches.items():
                rest, after = node.straight()
                bound = score.own + float(score.following[token])
                longer.append(_Branch((*branch.text, token, *rest), bound, after))
        found = nlargest(count, found, key=lambda text: text.score)
        beam = _hopeful(longer, found, width, count)
    return found


def anything(longest: int, width: int) -> Search:
    """The likeliest text of all that the vocabulary allows, at most ``longest`` tokens."""
    beam = [_Branch((), 0.0)]
    found: list[Found] = []
    while beam:
        scores = yield [Query(branch.text, ended=False) for branch in beam]
        longer: list[_Branch] = []
        for branch, score in zip(beam, scores, strict=True):
            found.append(Found(branch.text, score.own + float(score.following[END])))
            if len(branch.text) < longest:
                values, tokens = score.following.topk(min(width + 1, len(score.following)))
                longer.extend(
                    _Branch((*branch.text, token), score.own + value)
                    for value, token in zip(values.tolist(), tokens.tolist(), strict=True)
                    if token != END
                )
        found = nlargest(1, found, key=lambda text: text.score)
        beam = _hopeful(longer, found, width, 1)
    return found


def _hopeful(branches: list[_Branch], found: list[Found], width: int, count: int) -> list[_Branch]:
    """The best branches, but for those that can no longer be among the ``count`` found."""
    best = nlargest(width, branches, key=lambda branch: branch.bound)
    if len(found) < count:
        return best
    return [branch for branch in best if branch.bound > found[-1].score]
