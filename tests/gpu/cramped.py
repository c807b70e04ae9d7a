"""A worker's device that may use next to nothing of the GPU's memory."""

from __future__ import annotations

from app.engine.device import TorchDevice
from app.engine.messages import WorkerSettings

OPENER = "tests.gpu.cramped:CrampedDevice"


class CrampedDevice(TorchDevice):
    def __init__(self, settings: WorkerSettings) -> None:
        import torch

        super().__init__(settings)
        torch.cuda.set_per_process_memory_fraction(1e-4, self._name)
