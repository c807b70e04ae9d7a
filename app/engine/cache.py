"""Finished pictures and descriptions, kept in memory for requests that want them again."""

from __future__ import annotations

from app.engine.ticket import Key
from app.lru import Lru
from model.protocol import Picture, Result


def result_cache(limit: int) -> Lru[Key, Result]:
    """Holds at most ``limit`` bytes of results and of what was asked; 0 holds nothing."""
    return Lru(limit, size=_size)


def _size(key: Key, result: Result) -> int:
    request = key.request
    uploaded = 2 * len(request.source.picture.pixels) if request.source is not None else 0
    given = 4 * (len(request.prompt) + sum(map(len, request.labels))) + uploaded
    return _weight(result) + given


def _weight(result: Result) -> int:
    if isinstance(result, Picture):
        return len(result.pixels)
    return 4 * (len(result.caption) + sum(len(label.text) for label in result.labels))
