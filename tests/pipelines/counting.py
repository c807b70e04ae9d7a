"""The server, whose device counts what is alive of rows: ``python -m tests.pipelines.counting``.

``tessera_device_memory_bytes`` is the number of greenlets and rows in the worker, taken before each
step. What is alive when the models are ready does not count: so it is quick.
"""

from __future__ import annotations

import gc
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

from fastapi import FastAPI

from app import server
from app.engine import Engine
from app.engine.device import Device, DeviceError, TorchDevice
from app.engine.messages import WorkerSettings
from app.engine.selftest import SelfTest
from app.main import assemble
from app.metrics import Metrics
from app.settings import Settings
from model.protocol import ImageModel, LoadedModel


class CountingDevice:
    """The real device, but for what it says of its memory."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._device: Device = TorchDevice(settings)
        self.names = self._device.names

    def load(self, folder: Path) -> ImageModel[Any]:
        return self._device.load(folder)

    def describe(self, model: ImageModel[Any], test: SelfTest) -> LoadedModel:
        gc.freeze()
        return self._device.describe(model, test)

    def explain(self, error: Exception, doing: str) -> DeviceError | None:
        return self._device.explain(error, doing)

    def memory(self) -> int:
        """Greenlets and rows, not bytes."""
        from greenlet import greenlet

        from model.flow.sampler import FlowRow
        from model.pipelines.row import PipelineRow

        gc.collect()
        counted = (greenlet, PipelineRow, FlowRow)
        return sum(issubclass(type(each), counted) for each in gc.get_objects())

    def after_a_pause(self) -> AbstractContextManager[None]:
        return self._device.after_a_pause()


def create_app(settings: Settings) -> FastAPI:
    metrics = Metrics()
    opener = "tests.pipelines.counting:CountingDevice"
    engine = Engine(settings.engine, metrics, open_device=opener)
    return assemble(settings, engine, metrics)


if __name__ == "__main__":
    with mock.patch.object(server, "create_app", create_app):
        sys.exit(server.serve(Settings()))
