"""A family of models for Tessera: rings on water. docs/adding-a-family.md walks through it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from model.checkpoint import CONFIG, Checkpoint, CheckpointConfig, Placement, digest, read_config
from model.protocol import Pass
from model.request import ImageRequest, Picture
from model.runtime.rungs import Rungs
from model.sizes import Sizes
from model.spec import ModelSpec, Parameter


class RipplesCheckpoint(Checkpoint):
    """What is known without running it: imports no torch."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        config = read_config(folder / CONFIG, CheckpointConfig)
        spec = ModelSpec(
            id=folder.name,
            family=config.family,
            sizes=Sizes(96, 64, multiple=8, low=32, high=128, pixels=128 * 128),
            channels=3,
            parameters=(
                Parameter("steps", 1, 16, 4, 1, "Drops that fall, one a step."),
                Parameter("waves", 1, 20, 6, 0.5, "Waves across the image."),
            ),
            operations=("generate",),
            max_prompt_tokens=8,
            digest=digest(folder, [CONFIG]),
            license=config.license,
            description=config.description,
        )
        return cls(folder, spec)

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    def build(self, placement: Placement) -> Ripples:  # a network would be loaded here
        return Ripples(self.spec, placement.tile)


@dataclass(slots=True, eq=False)
class Row:
    """One image in the making."""

    request: ImageRequest
    drops: np.ndarray  # [steps, 2]: where each falls, as shares of height and width
    surface: np.ndarray  # [H, W], about −1…1
    step: int = 0
    kind: str = "drop"
    evaluations: int = 1

    @property
    def steps(self) -> int:
        return len(self.drops)

    @property
    def done(self) -> bool:
        return self.step == self.steps


class Ripples:
    """See `model.protocol.ImageModel`. A row never depends on the others in its pass."""

    def __init__(self, spec: ModelSpec, tile: int) -> None:
        self.spec = spec
        self.tile = tile
        self.slots = tile
        self.rungs = Rungs(tile)

    def cost(self, request: ImageRequest) -> int:
        return 1

    def capacity(self, kind: str) -> int:
        return self.tile

    def start(self, request: ImageRequest) -> Row:
        self.spec.check(request)
        drops = np.random.default_rng(request.seed).random((int(request.value("steps")), 2))
        return Row(request, drops, np.zeros((request.height, request.width)))

    def step(self, rows: Sequence[Row]) -> list[Pass]:
        if len(rows) > self.tile:
            raise ValueError(f"{len(rows)} rows do not fit a pass of {self.tile}")
        size = self.rungs.holding("drop", len(rows))
        for row in rows:  # a network would take them all in one pass of `size` evaluations
            height, width = row.surface.shape
            down, right = row.drops[row.step] * (height, width)
            distance = np.hypot(np.arange(height)[:, None] - down, np.arange(width) - right)
            phase = 2 * np.pi * row.request.value("waves") * distance / width
            row.surface = row.surface + np.cos(phase) / row.steps
            row.step += 1
        return [Pass("drop", len(rows), size)]

    def preview(self, row: Row) -> None:
        """Nothing to do: `result` needs no pass."""

    def result(self, row: Row) -> Picture:
        colour = np.frombuffer(hashlib.sha256(row.request.prompt.encode()).digest()[:3], np.uint8)
        light = (row.surface.clip(-1, 1) + 1) / 2
        pixels = (light[:, :, None] * colour).astype(np.uint8)
        return Picture(row.request.width, row.request.height, 3, pixels.tobytes())

    def release(self, row: Row) -> None:
        """A row holds nothing but its own memory."""
