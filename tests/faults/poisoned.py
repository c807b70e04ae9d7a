"""The server, with a model that dies of one prompt: ``python -m tests.faults.poisoned``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
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
from model.protocol import ImageModel, LoadedModel, ModelRow, Pass, Result
from model.request import ImageRequest

POISON = "poison"


class Fragile:
    """A model whose process dies in the second step of a row with that prompt."""

    def __init__(self, model: ImageModel[Any]) -> None:
        self._model = model
        self._poisonous: list[ModelRow] = []
        self.spec = model.spec
        self.tile = model.tile
        self.slots = model.slots
        self.rungs = model.rungs

    def cost(self, request: ImageRequest) -> int:
        return self._model.cost(request)

    def capacity(self, kind: str) -> int:
        return self._model.capacity(kind)

    def start(self, request: ImageRequest) -> ModelRow:
        row: ModelRow = self._model.start(request)
        if request.prompt == POISON:
            self._poisonous.append(row)
        return row

    def step(self, rows: Sequence[ModelRow]) -> Sequence[Pass]:
        if any(row.step == 1 for row in rows if row in self._poisonous):
            os._exit(70)
        return self._model.step(rows)

    def preview(self, row: ModelRow) -> None:
        self._model.preview(row)

    def result(self, row: ModelRow) -> Result:
        return self._model.result(row)

    def release(self, row: ModelRow) -> None:
        self._model.release(row)


class FragileDevice:
    """The real device, with fragile models."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._device: Device = TorchDevice(settings)
        self.names = self._device.names

    def load(self, folder: Path) -> Fragile:
        return Fragile(self._device.load(folder))

    def describe(self, model: ImageModel[Any], test: SelfTest) -> LoadedModel:
        return self._device.describe(model, test)

    def explain(self, error: Exception, doing: str) -> DeviceError | None:
        return self._device.explain(error, doing)

    def memory(self) -> int:
        return self._device.memory()

    def after_a_pause(self) -> AbstractContextManager[None]:
        return self._device.after_a_pause()


def create_app(settings: Settings) -> FastAPI:
    metrics = Metrics()
    opener = "tests.faults.poisoned:FragileDevice"
    engine = Engine(settings.engine, metrics, open_device=opener)
    return assemble(settings, engine, metrics)


if __name__ == "__main__":
    with mock.patch.object(server, "create_app", create_app):
        sys.exit(server.serve(Settings()))
