"""What ``tessera train`` was told, and what holds where it was told nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Trained = Literal["flow", "codec", "gpt", "gan"]
"""What can be trained: the families, and the codec that a gpt is trained over."""


@dataclass(frozen=True, slots=True)
class Preset:
    """The shape of a network and how fast it learns."""

    patch: int
    width: int
    depth: int
    learning_rate: float = 1e-3

    @property
    def heads(self) -> int:
        return max(1, self.width // 64)


PRESETS: dict[Trained, Preset] = {
    "flow": Preset(patch=8, width=256, depth=8),
    "codec": Preset(patch=8, width=192, depth=5),
    "gpt": Preset(patch=8, width=256, depth=6),
    "gan": Preset(patch=8, width=256, depth=6, learning_rate=2e-4),
}


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What ``tessera train`` was told; see its help for the meaning of each."""

    data: tuple[Path, ...]
    out: Path
    steps: int
    batch: int
    size: int
    patch: int | None  # here, and for width, depth and rate, None is what `PRESETS` has
    width: int | None
    depth: int | None
    channels: Literal[3, 4]
    learning_rate: float | None
    cooldown: float
    seed: int
    init: Path | None
    cpu: bool
    compiled: bool
    sample_every: int
    save_every: int
    description: str
    licence: str
    family: Trained = "flow"
    codec: Path | None = None  # gpt: a trained codec's folder

    @property
    def preset(self) -> Preset:
        """What was told of it, and the family's `PRESETS` for the rest."""
        usual, rate = PRESETS[self.family], self.learning_rate
        return Preset(
            self.patch or usual.patch,
            self.width or usual.width,
            self.depth or usual.depth,
            usual.learning_rate if rate is None else rate,
        )
