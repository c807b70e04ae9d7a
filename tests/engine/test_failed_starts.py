"""If these fail, whoever starts the service on a machine too small for it is not told what to do.

Real workers, the real device; what is wrong is the machine or what is asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from app.engine import Engine, EngineMetrics, EngineSettings, NotReady
from app.engine.device import DeviceError, TorchDevice
from app.engine.messages import WorkerSettings
from model.flow.sampler import FlowRow, FlowSampler
from model.protocol import ImageModel
from model.runtime import numerics
from tests.tiny import tiny_flow

ENDLESS = 10**12  # evaluations that no machine has memory for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flow(tmp_path_factory.mktemp("models") / "tiny")


async def failure(settings: EngineSettings, opener: str = "app.engine.device:TorchDevice") -> str:
    """Why the engine does not start."""
    engine = Engine(settings, EngineMetrics(), open_device=opener)
    await engine.start()
    try:
        with pytest.raises(NotReady):
            await engine.wait_ready()
        return str(engine.failure)
    finally:
        await engine.stop()


async def test_a_model_that_does_not_fit(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = EngineSettings(
        models=(folder,), devices=("cpu",), dtype="fp32", threads=1, tile=ENDLESS
    )
    assert await failure(settings) == (
        "cpu: no memory left while tiny was loaded; what helps: "
        f"a smaller TESSERA_TILE (it is {ENDLESS}), TESSERA_DTYPE=bf16"
    )
    assert "Traceback" not in capfd.readouterr().err


class Swelling(FlowSampler):
    """Takes all memory there is for its first pass."""

    def _denoise(self, rows: Sequence[FlowRow]) -> NoReturn:
        bytearray(2**62)
        raise AssertionError


class SwellingDevice(TorchDevice):
    """The real device, with models that fit until they run."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        models = (*settings.engine.models, Path("another"))
        self._settings = settings.engine.model_copy(update={"models": models})

    def load(self, folder: Path) -> ImageModel[Any]:
        model = super().load(folder)
        model.__class__ = Swelling
        return model


async def test_a_model_that_fits_only_until_it_runs(folder: Path) -> None:
    settings = EngineSettings(models=(folder,), devices=("cpu",), dtype="bf16", threads=1)
    why = await failure(settings, "tests.engine.test_failed_starts:SwellingDevice")
    assert why == (
        "cpu: no memory left while tiny was tested; what helps: "
        "a small TESSERA_TILE, fewer TESSERA_MODELS (there are 2)"
    )


async def test_a_device_that_is_not_there(folder: Path) -> None:
    settings = EngineSettings(models=(folder,), devices=("cuda:99",), threads=1)
    why = await failure(settings)
    assert why.startswith("cuda:99: there is no such device here, only cpu")


def test_a_device_without_room_even_for_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other processes hold all of a GPU: the first call to its driver fails.
    def full(device: str, threads: int | None) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(numerics, "configure_determinism", full)
    settings = WorkerSettings("", "cpu", EngineSettings(models=(Path("one"),), threads=1))
    with pytest.raises(DeviceError, match="no memory left while the device was opened"):
        TorchDevice(settings)
