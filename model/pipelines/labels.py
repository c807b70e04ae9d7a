"""Classes by their names, for pipelines that draw a class of a fixed list. Imports no torch."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping

from model.request import InvalidField

Labels = Mapping[str, str]
"""``id2label`` of a ``model_index.json``: "207" → "golden retriever", synonyms between commas."""

LISTED = 5
"""Names in a message."""


def class_of(prompt: str, id2label: Labels, field: str = "prompt") -> int:
    """The class that a prompt names: whole or by one of its synonyms, by some of their words where
    these fit no other class, or by its number. Case and underscores do not count.

    Raises `InvalidField` (of ``field``) with the nearest names, for none as for several.
    """
    wanted = _plain(prompt)
    number = prompt.strip().removeprefix("#")
    named = [key for key, label in id2label.items() if wanted in _names(label)]
    if not named and number in id2label:
        return int(number)
    if not named and wanted:
        words = set(wanted.split())
        named = [
            key
            for key, label in id2label.items()
            if any(words <= set(name.split()) for name in _names(label))
        ]
    if len(named) == 1:
        return int(named[0])
    given = prompt.strip()[:80]
    if named:
        listed = _listed(f"{id2label[key]} (#{key})" for key in named)
        raise InvalidField(field, f"{given!r} may be {listed}")
    names = {name: key for key, label in id2label.items() for name in _names(label)}
    nearest = difflib.get_close_matches(wanted, names, LISTED, cutoff=0.4) or [*names][:LISTED]
    keys = dict.fromkeys(names[name] for name in nearest)
    listed = _listed(id2label[key] for key in keys)
    raise InvalidField(field, f"{given!r} names none of {len(id2label)} classes; nearest: {listed}")


def class_for(prompt: str, seed: int, id2label: Labels) -> int:
    """The class of a prompt; an empty one leaves it to the seed. Raises `InvalidField`."""
    if prompt.strip():
        return class_of(prompt, id2label)
    drawn = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "big")
    numbers = sorted(map(int, id2label))
    return numbers[drawn % len(numbers)]


def examples(id2label: Labels, count: int = 4) -> tuple[str, ...]:
    """Names that are each of one class, from all over the list."""
    found: list[str] = []
    keys = sorted(id2label, key=int)
    for key in (*keys[:: max(1, len(keys) // count)], *keys):
        name = id2label[key].split(",")[0].strip()
        taken = [other for other in keys if _plain(name) in _names(id2label[other])]
        if taken == [key] and name not in found:
            found.append(name)
        if len(found) == count:
            break
    return tuple(found)


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[_\-]", " ", text).casefold().split())


def _names(label: str) -> set[str]:
    return {_plain(name) for name in (label, *label.split(","))}


def _listed(names: Iterable[str]) -> str:
    every = [*names]
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return "; ".join(every[:LISTED]) + more
