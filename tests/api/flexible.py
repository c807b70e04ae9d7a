"""An engine of the hills (`tests.browser.hills`): a fake that takes all that a pipeline may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.engine import Engine, EngineSettings
from app.engine.selftest import SelfTest
from app.metrics import Metrics
from model.checkpoint import CONFIG
from model.protocol import ImageModel, LoadedModel
from tests.browser.hills import Hills, HillsCheckpoint
from tests.engine.fakes import FakeDevice

OPENER = "tests.api.flexible:HillsDevice"
TILE = 4


class HillsDevice(FakeDevice):
    """See `app.engine.device.Device`."""

    def load(self, folder: Path) -> Any:
        return Hills(HillsCheckpoint.open(folder).spec, TILE)

    def describe(self, model: ImageModel[Any], test: SelfTest) -> LoadedModel:
        exact, device = test.seed_exact, self.settings.device
        return LoadedModel(model.spec, "hills", exact, TILE, model.slots, device, "fp32")


def checkpoint_in(folder: Path) -> Path:
    """Writes one, and returns its folder."""
    written = folder / "hills"
    written.mkdir()
    config = {"family": "hills", "description": "Hills under a sun.", "license": "CC0-1.0"}
    (written / CONFIG).write_text(json.dumps(config))
    return written


def engine_of(checkpoint: Path, metrics: Metrics) -> Engine:
    """Not started."""
    settings = EngineSettings(models=(checkpoint,), devices=("cpu",), cache_bytes=0)
    return Engine(settings, metrics, open_checkpoint=HillsCheckpoint.open, open_device=OPENER)
