"""Whether an error is a lack of memory, and how much a device has."""

from __future__ import annotations

from dataclasses import dataclass

import torch

MESSAGES = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""Of drivers, cuBLAS, cuDNN and the CPU's allocator, in lower case."""

GIB = 2**30


def is_shortage(error: BaseException) -> bool:
    """Whether there was too little memory, whichever library noticed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        message in str(error).lower() for message in MESSAGES
    )


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes."""

    total: int
    free: int
    ours: int  # held by this process

    @classmethod
    def on(cls, device: str) -> DeviceMemory | None:
        """What there is; None where the device does not report it, or no longer can."""
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
