"""Finished pictures and descriptions, least recently used first out, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict

from app.engine.ticket import Key
from model.protocol import Picture, Result

OVERHEAD = 1024  # bytes that an entry takes beside its pixels and prompt, about


class ResultCache:
    """Holds at most ``limit`` bytes, its own bookkeeping included; a limit of 0 holds nothing."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._results: OrderedDict[Key, Result] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What it holds now."""
        return self._bytes

    def get(self, key: Key) -> Result | None:
        """The result, which thereby becomes the most recently used one."""
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
        return result

    def put(self, key: Key, result: Result) -> None:
        """Keeps a result in place of the least recently used; one beyond the limit is not kept."""
        if _size(key, result) > self._limit or key in self._results:
            return
        self._results[key] = result
        self._bytes += _size(key, result)
        while self._bytes > self._limit:
            self._bytes -= _size(*self._results.popitem(last=False))


def _size(key: Key, result: Result) -> int:
    request = key.request
    uploaded = 2 * len(request.source.picture.pixels) if request.source is not None else 0
    given = 4 * (len(request.prompt) + sum(map(len, request.labels))) + uploaded
    return _weight(result) + given + OVERHEAD


def _weight(result: Result) -> int:
    if isinstance(result, Picture):
        return len(result.pixels)
    return 4 * (len(result.caption) + sum(len(label.text) for label in result.labels))
