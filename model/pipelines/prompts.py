"""Encoded prompts, remembered: the same words are not read twice.

Kept are what ``encode_prompt`` returned, and what each text encoder did: then the negative prompt
that most requests have in common is read once, whatever their prompts are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from cachetools import LRUCache
from PIL import Image
from torch import Tensor

from model.pipelines.calls import content_of, tensors

ENTRY_OVERHEAD = 1024
"""Bytes that an entry takes beside its tensors, about."""

MOST_OF_ONE_ENCODER = 1 / 32
"""Of the limit, for one answer of a text encoder. Those with the states of all their layers are
larger than what `encode_prompt` makes of them, and would drive out everything else."""


class EncodedPrompts:
    """What was encoded, by its arguments, on the CPU; bounded in bytes.

    The bits are those of the first time: they only travel.
    """

    def __init__(self, limit: int, device: torch.device) -> None:
        self._device = device
        self._known: LRUCache[str, Any] = LRUCache(limit, getsizeof=_weight)

    def get(self, arguments: Any, encode: Callable[[], Any], most: float = 1.0) -> Any:
        """What ``encode`` returns, or returned for equal arguments.

        ``most`` is the share of the limit beyond which an answer is not kept.
        """
        key = _key(arguments) if self._known.maxsize else None
        if key is None:
            return encode()
        if (known := self._known.get(key)) is not None:
            return _moved(known, self._device)  # a copy: it is the caller's to change
        encoded = encode()
        kept = _without_cache(encoded)
        if _weight(kept) <= self._known.maxsize * most and _is_plain(kept):
            self._known[key] = _moved(kept, torch.device("cpu"))
        return encoded

    @property
    def bytes(self) -> int:
        """Held by the entries."""
        return int(self._known.currsize)


def _weight(encoded: Any) -> int:
    return ENTRY_OVERHEAD + sum(tensor.nbytes for tensor in tensors(encoded))


def _without_cache(encoded: Any) -> Any:
    """A language model's output without the keys and values that it kept for the next word, if no
    position of the others changes."""
    if not isinstance(encoded, dict) or [*encoded][-1:] != ["past_key_values"]:
        return encoded
    return type(encoded)(**{name: encoded[name] for name in [*encoded][:-1]})


def _is_plain(value: Any) -> bool:
    """Whether there is nothing in it but tensors: no cache of keys and values, no distribution."""
    match value:
        case None | bool() | int() | float() | str() | Tensor():
            return True
        case tuple() | list():
            return all(map(_is_plain, value))
        case dict():
            return all(map(_is_plain, value.values()))
        case _:
            return False


def _moved(value: Any, device: torch.device) -> Any:
    """A copy of what `_is_plain`."""
    match value:
        case Tensor():
            return value.to(device, copy=True)
        case tuple() | list():
            return type(value)(_moved(one, device) for one in value)
        case dict():  # the libraries' outputs are dictionaries too
            return type(value)(**{name: _moved(one, device) for name, one in value.items()})
        case _:
            return value


def _key(arguments: Any) -> str | None:
    """A digest of the arguments; None where one of them cannot be compared."""
    hasher = hashlib.sha256()
    return hasher.hexdigest() if _hash(arguments, hasher) else None


def _hash(value: Any, hasher: Any) -> bool:
    match value:
        case None | bool() | int() | float() | str() | torch.device() | torch.dtype():
            hasher.update(f"{type(value).__name__} {value!r}\n".encode())
            return True
        case Tensor():
            hasher.update(f"tensor {value.dtype} {list(value.shape)}\n".encode())
            hasher.update(content_of(value))
            return True
        case Image.Image():
            hasher.update(f"image {value.mode} {value.size}\n".encode())
            hasher.update(value.tobytes())
            return True
        case dict():
            hasher.update(f"dict {len(value)}\n".encode())
            return all(_hash(one, hasher) for pair in sorted(value.items()) for one in pair)
        case list() | tuple():
            hasher.update(f"{type(value).__name__} {len(value)}\n".encode())
            return all(_hash(one, hasher) for one in value)
        case _:
            return False
