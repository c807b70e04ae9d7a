"""If this fails, a seed in a body means another image than the same seed in an address."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from app.api.schemas import Seed
from app.generation.resolve import seed_of
from model.request import SEEDS

seeds = TypeAdapter[int](Seed)


@pytest.mark.parametrize(
    ("value", "seed"),
    [(0, 0), (7.0, 7), (SEEDS - 1, SEEDS - 1), ("7", 7), ("ada", seed_of("ada"))],
)
def test_integers_and_strings_are_seeds(value: object, seed: int) -> None:
    assert seeds.validate_python(value) == seed


@pytest.mark.parametrize("value", [-1, SEEDS, 1.5, True, None, "", "x" * 257, "\ud800", [7]])
def test_what_is_no_seed_is_refused_with_what_would_be_one(value: object) -> None:
    with pytest.raises(ValidationError, match="integer from 0 to 9007199254740991 or a string"):
        seeds.validate_python(value)
