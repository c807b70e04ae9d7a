"""A class is drawn by its name; a name that could be two is never guessed."""

from __future__ import annotations

import pytest

from model.pipelines.labels import class_for, class_of, examples
from model.request import InvalidField
from tests.model.pipelines.folders import LABELS


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("golden retriever", 207),
        ("Golden_Retriever ", 207),
        ("GOLDEN-RETRIEVER", 207),
        ("Carassius auratus", 1),  # a synonym
        ("goldfish, carassius auratus", 1),  # all of it
        ("persian", 283),  # some of its words, and of no other's
        ("tiger", 292),  # a whole name counts before a part of one
        ("#134", 134),  # one of two that are called the same
        ("517", 517),
    ],
)
def test_a_name_finds_its_class(prompt: str, expected: int) -> None:
    assert class_of(prompt, LABELS) == expected


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("crane", r"'crane' may be crane \(#134\); crane \(#517\)"),
        ("retriever", r"'retriever' may be golden retriever \(#207\); Labrador retriever \(#208\)"),
        ("golden retreiver", "names none of 8 classes; nearest: golden retriever"),
        ("a photo of a dog", "'a photo of a dog' names none of 8 classes; nearest: "),
        ("999", "names none of 8 classes"),
    ],
)
def test_none_or_several_are_refused_with_the_nearest(prompt: str, says: str) -> None:
    with pytest.raises(InvalidField, match=says) as info:
        class_of(prompt, LABELS, "text")
    assert info.value.field == "text"
    assert info.value.code == "invalid_value"


def test_a_long_list_is_cut() -> None:
    labels = {str(number): f"spotted cat {number}" for number in range(9)}
    with pytest.raises(InvalidField, match=r"spotted cat 4 \(#4\) and 4 more"):
        class_of("spotted cat", labels)


def test_an_empty_prompt_leaves_the_class_to_the_seed() -> None:
    drawn = {class_for(" ", seed, LABELS) for seed in range(50)}
    assert drawn == {int(key) for key in LABELS}
    assert class_for("", 7, LABELS) == class_for("", 7, LABELS)
    assert class_for("persian cat", 7, LABELS) == 283


def test_examples_are_names_of_one_class_each() -> None:
    found = examples(LABELS)
    assert len(found) == 4
    assert len({class_of(name, LABELS) for name in found}) == 4
    assert examples({"3": "crane", "4": "crane", "5": "tench, Tinca tinca"}) == ("tench",)
