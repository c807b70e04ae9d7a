"""Which text fits a picture best: searches that say what to weigh next, and are told the weights.

A search is a generator: it yields the texts to be weighed (`Ask`), is sent what each weighs
(`Weight`), in that order, and returns its `Found` texts, the likeliest first. So one search needs
no more than a place in a batch at a time, and shares it with whatever else runs. Weights are
natural logarithms of probabilities. Knows nothing about networks, batches or strings.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from torch import Tensor

from model.gpt.sequence import END

Text = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """A text to be weighed; ``ended`` if it shall end there."""

    text: Text
    ended: bool


@dataclass(frozen=True, slots=True)
class Weight:
    """Of a text: its own weight, and that of every token (and of the end) that may follow."""

    own: float
    following: Tensor  # [V]


@dataclass(frozen=True, slots=True)
class Found:
    """A whole text and its weight."""

    text: Text
    weight: float


Search = Generator[list[Ask], list[Weight], list[Found]]


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


def weigh_all(texts: Sequence[Text]) -> Search:
    """Every one of these texts."""
    weights = yield [Ask(text, ended=True) for text in texts]
    found = [Found(text, one.own) for text, one in zip(texts, weights, strict=True)]
    return sorted(found, key=lambda one: -one.weight)


def best_of(trie: Trie, width: int, count: int) -> Search:
    """The likeliest ``count`` texts of a trie, by a beam of ``width`` beginnings.

    Where there is no choice, a beginning is prolonged to the next one before it is weighed.
    """
    text, node = trie.straight()
    beam = [_Branch(text, 0.0, node)]
    found: list[Found] = []
    while beam:
        weights = yield [Ask(branch.text, ended=False) for branch in beam]
        longer: list[_Branch] = []
        for branch, weight in zip(beam, weights, strict=True):
            assert branch.node is not None
            if branch.node.ends:
                found.append(Found(branch.text, weight.own + float(weight.following[END])))
            for token, node in branch.node.branches.items():
                rest, after = node.straight()
                bound = weight.own + float(weight.following[token])
                longer.append(_Branch((*branch.text, token, *rest), bound, after))
        found = nlargest(count, found, key=lambda one: one.weight)
        beam = _hopeful(longer, found, width, count)
    return found


def anything(longest: int, width: int) -> Search:
    """The likeliest text of all that the vocabulary allows, at most ``longest`` tokens."""
    beam = [_Branch((), 0.0)]
    found: list[Found] = []
    while beam:
        weights = yield [Ask(branch.text, ended=False) for branch in beam]
        longer: list[_Branch] = []
        for branch, weight in zip(beam, weights, strict=True):
            found.append(Found(branch.text, weight.own + float(weight.following[END])))
            if len(branch.text) < longest:
                values, tokens = weight.following.topk(min(width + 1, len(weight.following)))
                longer.extend(
                    _Branch((*branch.text, token), weight.own + value)
                    for value, token in zip(values.tolist(), tokens.tolist(), strict=True)
                    if token != END
                )
        found = nlargest(1, found, key=lambda one: one.weight)
        beam = _hopeful(longer, found, width, 1)
    return found


def _hopeful(branches: list[_Branch], found: list[Found], width: int, count: int) -> list[_Branch]:
    """The best branches, but for those that can no longer be among the ``count`` found."""
    best = nlargest(width, branches, key=lambda branch: branch.bound)
    if len(found) < count:
        return best
    return [branch for branch in best if branch.bound > found[-1].weight]
