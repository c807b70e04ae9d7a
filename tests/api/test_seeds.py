"""If these fail, addresses of pictures no longer mean the picture that they meant."""

import hashlib

import pytest
from pydantic import TypeAdapter, ValidationError

from app.api.seeds import Seed, seed_of
from model.protocol import SEEDS

seeds = TypeAdapter[int](Seed)


@pytest.mark.parametrize(
    ("text", "seed"),
    [("0", 0), ("7", 7), ("007", 7), (str(SEEDS - 1), SEEDS - 1)],
)
def test_digits_in_range_are_the_integer(text: str, seed: int) -> None:
    assert seed_of(text) == seed


@pytest.mark.parametrize("text", ["ada", "-1", "7 ", "7.0", "\u0667", str(SEEDS), "9" * 5000, "\n"])
def test_any_other_string_is_53_bits_of_its_sha256(text: str) -> None:
    first = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    assert seed_of(text) == first >> 3
    assert seed_of(text) < SEEDS


def test_one_name_in_two_normal_forms_is_one_seed() -> None:
    assert seed_of("Zoë") == seed_of("Zoe\u0308")


@pytest.mark.parametrize("value", [-1, SEEDS, 1.5, True, None, "", "x" * 257, "\ud800", [7]])
def test_what_is_no_seed_is_refused_with_what_would_be_one(value: object) -> None:
    with pytest.raises(ValidationError, match="integer from 0 to 9007199254740991 or a string"):
        seeds.validate_python(value)
