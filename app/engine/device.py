"""What a worker needs of the code that owns its device. Imports no torch.

The real one is in `app.engine.worker`; tests name another by `WorkerSettings.opener`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from model.protocol import ImageModel


@dataclass(frozen=True, slots=True)
class Placed:
    """A model on its device, and what is known of it there."""

    model: ImageModel[Any]
    numerics: str
    device: str  # as people know it, e.g. "cuda:0 (NVIDIA H200)"
    dtype: str


class DeviceError(Exception):
    """Why a device cannot be used. ``str()`` says all there is to say."""


class Device(Protocol):
    """A device that this process owns."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name and, where "auto" was asked for, those of its siblings after it."""

    def load(self, folder: str) -> Placed:
        """Loads a checkpoint. Whatever it raises is reported as the reason of a failed start."""

    def explain(self, error: Exception, doing: str) -> DeviceError | None:
        """The same error in words that help, if it is one of the device's: no memory, mostly."""

    def memory(self) -> int:
        """Bytes held on the device; 0 where it does not tell."""
