"""Encoded prompts, remembered: the same words are not read twice."""

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


class EncodedPrompts:
    """What ``encode_prompt`` returned, by its arguments, on the CPU; bounded in bytes.

    The bits are those of the first time: they only travel.
    """

    def __init__(self, limit: int, device: torch.device) -> None:
        self._device = device
        self._known: LRUCache[str, Any] = LRUCache(limit, getsizeof=_weight)

    def get(self, arguments: Any, encode: Callable[[], Any]) -> Any:
        """What ``encode`` returns, or returned for equal arguments."""
        key = _key(arguments)
        if key is None:
            return encode()
        if (known := self._known.get(key)) is not None:
            return _moved(known, self._device, copy=True)  # it is the caller's to change
        encoded = encode()
        kept = _moved(encoded, torch.device("cpu"), copy=True)
        if _weight(kept) <= self._known.maxsize:
            self._known[key] = kept
        return encoded

    @property
    def bytes(self) -> int:
        """Held by the entries."""
        return int(self._known.currsize)


def _weight(encoded: Any) -> int:
    return ENTRY_OVERHEAD + sum(tensor.nbytes for tensor in tensors(encoded))


def _moved(value: Any, device: torch.device, *, copy: bool = False) -> Any:
    match value:
        case Tensor():
            return value.to(device, copy=copy)
        case tuple() | list():
            return type(value)(_moved(one, device, copy=copy) for one in value)
        case dict():
            return {name: _moved(one, device, copy=copy) for name, one in value.items()}
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
