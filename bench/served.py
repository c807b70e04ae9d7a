"""What the engine delivers of what the model can do: pictures a second, full house, one worker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from app.engine import Engine, EngineSettings, ImageRequest, NoMetrics
from model.checkpoint import Checkpoint
from model.protocol import LoadedModel


@dataclass(frozen=True, slots=True)
class Served:
    """A saturated engine, measured."""

    model: LoadedModel
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def measure_served(checkpoint: Checkpoint, *, device: str, images: int) -> Served:
    """Asks for all pictures at once, each with the model's own steps and guidance."""
    return asyncio.run(_measure(checkpoint, device, images))


async def _measure(checkpoint: Checkpoint, device: str, images: int) -> Served:
    spec = checkpoint.spec
    settings = EngineSettings(
        models=(checkpoint.folder,), devices=(device,), max_rows_waiting=images, cache_bytes=0
    )
    engine = Engine(settings, NoMetrics())
    await engine.start()
    try:
        await engine.wait_ready()

        async def draw(seed: int) -> None:
            request = ImageRequest(
                model=spec.id,
                prompt="a picture",
                seed=seed,
                n=1,
                steps=int(spec.steps.default),
                guidance=spec.guidance.default,
                solver=spec.solver,
            )
            async with engine.submit(request, timeout=3600) as job:
                async for _ in job:
                    pass

        began = time.monotonic()
        await asyncio.gather(*map(draw, range(images)))
        return Served(engine.models[spec.id], images, time.monotonic() - began)
    finally:
        await engine.stop()
