"""Finished pictures, least recently used first out, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict

from app.engine.ticket import Key
from model.protocol import Picture

OVERHEAD = 1024  # bytes that an entry takes beside its pixels and prompt, about


class PictureCache:
    """Holds at most ``limit`` bytes, its own bookkeeping included; a limit of 0 holds nothing."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pictures: OrderedDict[Key, Picture] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What it holds now."""
        return self._bytes

    def get(self, key: Key) -> Picture | None:
        """The picture, which thereby becomes the most recently used one."""
        picture = self._pictures.get(key)
        if picture is not None:
            self._pictures.move_to_end(key)
        return picture

    def put(self, key: Key, picture: Picture) -> None:
        """Keeps a picture in place of the least recently used; one beyond the limit is not kept."""
        if _size(key, picture) > self._limit or key in self._pictures:
            return
        self._pictures[key] = picture
        self._bytes += _size(key, picture)
        while self._bytes > self._limit:
            self._bytes -= _size(*self._pictures.popitem(last=False))


def _size(key: Key, picture: Picture) -> int:
    request = key.request
    uploaded = 2 * len(request.source.picture.pixels) if request.source is not None else 0
    return len(picture.pixels) + 4 * len(request.prompt) + uploaded + OVERHEAD
