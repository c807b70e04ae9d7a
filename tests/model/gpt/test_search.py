"""Which text fits best: the searches against a toy whose every text can be scored."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from model.gpt.captioning import RunningSearch
from model.gpt.search import Found, Query, Score, Search, Text, Trie, anything, best_of, score_all
from model.gpt.sequence import END

VOCABULARY = 5  # the end, and four tokens
T = TypeVar("T")


def following(text: Text) -> Tensor:
    """The log-probabilities after a text: random, but always the same after the same text."""
    generator = torch.Generator().manual_seed(hash(text) % 2**31)
    return (2 * torch.randn(VOCABULARY, generator=generator)).log_softmax(0)


def score(text: Text, ended: bool) -> float:
    steps = [following(text[:place])[token] for place, token in enumerate(text)]
    return float(sum(steps)) + (float(following(text)[END]) if ended else 0.0)


def answer(search: Generator[list[Query], list[Score], T]) -> tuple[T, int]:
    """What the search finds, and how many texts it had scored."""
    running, count = RunningSearch(search), 0
    while running.found is None:
        queries = []
        while query := running.query():
            queries.append(query)
        for number, asked in reversed(queries):  # in any order
            running.answer(number, Score(score(asked.text, asked.ended), following(asked.text)))
        count += len(queries)
    return running.found, count


TEXTS: list[Text] = [
    text
    for length in range(1, 5)
    for text in itertools.product(range(1, VOCABULARY), repeat=length)
]
SOME = TEXTS[::3]


def truth(texts: list[Text], count: int) -> list[Text]:
    return sorted(texts, key=lambda text: -score(text, ended=True))[:count]


def check(found: list[Found], texts: list[Text]) -> None:
    assert [one.text for one in found] == truth(texts, len(found))
    for one in found:
        assert math.isclose(one.score, score(one.text, ended=True), abs_tol=1e-4)


def test_all_texts_are_scored_and_sorted() -> None:
    found, count = answer(score_all(SOME))
    assert len(found) == count == len(SOME)
    check(found, SOME)


def test_a_wide_beam_finds_the_best_of_a_trie() -> None:
    found, count = answer(best_of(Trie.of(SOME), width=50, count=5))
    assert len(found) == 5
    check(found, SOME)
    assert count < len(SOME)  # what cannot be among the best is not scored


def test_where_there_is_no_choice_nothing_is_asked() -> None:
    texts: list[Text] = [(1, 2, 3, 4), (1, 2, 4, 4, 4)]
    found, count = answer(best_of(Trie.of(texts), width=4, count=5))
    assert count == 3  # (1, 2) and both whole texts
    check(found, texts)
    assert len(found) == 2


def test_a_text_may_be_the_beginning_of_another() -> None:
    texts: list[Text] = [(1,), (1, 2), (1, 2, 3)]
    check(answer(best_of(Trie.of(texts), width=4, count=5))[0], texts)


def test_no_texts_no_labels() -> None:
    assert answer(best_of(Trie.of([]), width=4, count=5))[0] == []


@pytest.mark.parametrize("longest", [1, 4])
def test_the_likeliest_text_of_all_is_found(longest: int) -> None:
    [found], _ = answer(anything(longest, width=50))
    texts: list[Text] = [(), *(text for text in TEXTS if len(text) <= longest)]
    check([found], texts)


def test_a_narrow_beam_scores_what_it_finds_rightly() -> None:
    searches: list[Search] = [anything(4, width=2), best_of(Trie.of(SOME), width=2, count=3)]
    for search in searches:
        found, _ = answer(search)
        for one in found:
            assert math.isclose(one.score, score(one.text, ended=True), abs_tol=1e-4)
