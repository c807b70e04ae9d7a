"""Seeds: an integer is itself, any other string is hashed to one."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from model.protocol import SEEDS

LONGEST = 256
"""Characters in a seed that is a string."""

_DIGITS = len(str(SEEDS))


def seed_of(text: str) -> int:
    """The seed that a string stands for: decimal digits in range are that integer.

    Any other string is normalised (NFC) and hashed; the first 53 bits of its SHA-256 are the seed.
    """
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) < SEEDS:
        return int(text)
    digest = hashlib.sha256(unicodedata.normalize("NFC", text).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def random_seed() -> int:
    return secrets.randbelow(SEEDS)


def _parse(value: object) -> int:
    match value:
        case bool():
            pass
        case int() if 0 <= value < SEEDS:
            return value
        case float() if value.is_integer() and 0 <= value < SEEDS:
            return int(value)
        case str() if 1 <= len(value) <= LONGEST:
            with suppress(UnicodeEncodeError):  # a lone surrogate
                return seed_of(value)
    raise PydanticCustomError(
        "seed",
        "should be an integer from 0 to {last} or a string of 1 to {longest} characters",
        {"last": SEEDS - 1, "longest": LONGEST},
    )


_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": SEEDS - 1},
        {"type": "string", "minLength": 1, "maxLength": LONGEST},
    ],
}

Seed = Annotated[int, BeforeValidator(_parse), WithJsonSchema(_SCHEMA)]
"""A field that takes an integer or a string and holds the integer."""
