"""Whether an error is a lack of memory, and what then helps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

SAYINGS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""How drivers, cuBLAS, cuDNN and the CPU's allocator put it."""

GIB = 2**30


def is_shortage(error: BaseException) -> bool:
    """Whether there was too little memory, whoever noticed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        saying in str(error).lower() for saying in SAYINGS
    )


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a device's memory."""

    total: int
    free: int
    ours: int  # held by this process

    @classmethod
    def on(cls, device: str) -> Room | None:
        """What there is; None where the device does not tell, or cannot any longer."""
        if not device.startswith("cuda"):
            return None
        try:
            free, total = torch.cuda.mem_get_info(device)
            return cls(total, free, torch.cuda.memory_reserved(device))
        except RuntimeError:
            return None

    @property
    def others(self) -> int:
        """Held by other processes, and by the driver itself."""
        return max(0, self.total - self.free - self.ours)

    def __str__(self) -> str:
        total, ours, others = self.total / GIB, self.ours / GIB, self.others / GIB
        return (
            f"of {total:.1f} GiB, this worker holds {ours:.1f} "
            f"and other processes and the driver {others:.1f}"
        )


def explain(*, doing: str, room: Room | None, models: int, tile: int | None, dtype: str) -> str:
    """Why there was no room for ``doing``, and the settings that need less of it.

    ``tile`` is None where each model has its own.
    """
    helps = []
    if tile is None:
        helps.append("a small TESSERA_TILE")
    elif tile > 2:
        helps.append(f"a smaller TESSERA_TILE (it is {tile})")
    if models > 1:
        helps.append(f"fewer TESSERA_MODELS (there are {models})")
    if dtype == "fp32":
        helps.append("TESSERA_DTYPE=bf16")
    if room is not None and room.others > room.total / 4:
        helps.append("a device to itself (TESSERA_DEVICES)")
    found = f" ({room})" if room else ""
    what_helps = f"; what helps: {', '.join(helps)}" if helps else ""
    return f"no memory left {doing}{found}{what_helps}"
