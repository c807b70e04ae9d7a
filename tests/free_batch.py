"""The fixed tile switched off: what seed-exact would be without it. For the inverse tests.

``python -m tests.free_batch`` is the server with such models.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from unittest import mock

from fastapi import FastAPI
from torch import Tensor

from app import server
from app.engine import Engine
from app.engine.device import TorchDevice
from app.engine.messages import WorkerSettings
from app.main import assemble
from app.metrics import Metrics
from app.settings import Settings
from model.flow.network import PromptEncoding
from model.flow.sampler import DenoiseInputs, FlowRow, FlowSampler
from model.protocol import Pass
from model.runtime import packing

OPENER = "tests.free_batch:FreeBatchDevice"


def library_products() -> AbstractContextManager[object]:
    """Models that are loaded meanwhile multiply as torch does by itself. Its bits depend on the
    size of a pass on CPUs where those of packed weights do not."""
    return mock.patch.object(packing, "packs", return_value=False)


class FreeBatch(FlowSampler):
    """A pass is as large as the evaluations in it."""

    @classmethod
    def of(cls, model: FlowSampler) -> FreeBatch:
        """The same model; its shapes change, so that no graph can hold them."""
        free = cls(model.spec, model._network, model._tokenizer, model.tile)
        free.rungs.smaller = ()  # none that the self-test could find to differ
        free.rungs.use(())
        return free

    def _denoise(self, rows: Sequence[FlowRow]) -> Pass:
        self._used = sum(row.evaluations for row in rows)
        return super()._denoise(rows)

    def _predict(self, inputs: DenoiseInputs) -> tuple[Tensor]:
        used = PromptEncoding(*(part[: self._used] for part in self._prompts))
        noisy, time = inputs.noisy[: self._used].to(self._dtype), inputs.time[: self._used]
        return (self._network.denoise(noisy, time, used).float(),)


class FreeBatchDevice(TorchDevice):
    """The real device, with such models."""

    def __init__(self, settings: WorkerSettings) -> None:
        engine = settings.engine.model_copy(update={"cuda_graphs": False})
        super().__init__(replace(settings, engine=engine))

    def load(self, folder: Path) -> FreeBatch:
        with library_products():
            model = super().load(folder)
        assert isinstance(model, FlowSampler)
        return FreeBatch.of(model)


def create_app(settings: Settings) -> FastAPI:
    metrics = Metrics()
    engine = Engine(settings.engine, metrics, open_device=OPENER)
    return assemble(settings, engine, metrics)


if __name__ == "__main__":
    with mock.patch.object(server, "create_app", create_app):
        sys.exit(server.serve(Settings()))
