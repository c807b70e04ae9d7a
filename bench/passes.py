"""How long a step takes on a device: at each tile, as a graph and kernel by kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.checkpoint import Checkpoint, load_model
from model.passes import Mode
from model.tile import TileSpeed, measure


@dataclass(frozen=True, slots=True)
class Passes:
    """One way to run steps, measured at several tiles."""

    dtype: str
    mode: Mode
    speeds: tuple[TileSpeed, ...]


def measure_passes(
    checkpoint: Checkpoint,
    *,
    device: str,
    modes: Sequence[Mode],
    tiles: Sequence[int],
    seconds: float,
) -> Iterator[Passes]:
    """Full tiles of guided rows; what the host does for them is part of a step."""
    for dtype in ("bf16", "fp32"):
        for mode in modes:
            speeds = []
            for tile in tiles:
                model = load_model(
                    checkpoint,
                    device=device,
                    dtype="bf16" if dtype == "bf16" else "fp32",
                    tile=tile,
                    mode=mode,
                )
                speeds.append(measure(model, seconds))
            yield Passes(dtype, mode, tuple(speeds))
