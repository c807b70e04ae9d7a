"""A bounded memory of what was used last. Knows nothing of what it holds but its size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

OVERHEAD = 1024
"""Bytes that an entry takes beside what it holds, about: the key, the objects, the table."""


class Lru(Generic[K, V]):
    """Holds entries of at most ``limit`` bytes in all; the least recently used make room.

    ``size`` tells the bytes of an entry's contents, and must tell the same each time.
    """

    def __init__(self, limit: int, size: Callable[[K, V], int]) -> None:
        self._limit = limit
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What it holds now, `OVERHEAD` included."""
        return self._bytes

    def get(self, key: K) -> V | None:
        """The entry, which thereby becomes the most recently used one."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keeps an entry. One that is here already stays; one beyond the limit is not kept."""
        weight = self._weight(key, value)
        if key in self._entries or weight > self._limit:
            return
        self._entries[key] = value
        self._bytes += weight
        while self._bytes > self._limit:
            self._bytes -= self._weight(*self._entries.popitem(last=False))

    def _weight(self, key: K, value: V) -> int:
        return self._size(key, value) + OVERHEAD
