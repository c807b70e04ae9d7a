"""What a run is like where its options do not say: chosen for what it trains on, and where.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

SIZES = (32, 64, 128)
GRID = 8
"""Patches along a side of an image."""

UNLIMITED = 10_000_000
"""Steps of a run that ends by the clock."""

LEAST_COMPILED = 30.0
"""Minutes of a run on the CPU that win back the minute or more which compiling takes."""

SMALL_GPU = 8.0
"""GiB; with less, batches are half as large."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run trains on, and where."""

    images: int
    side: int | None  # pixels: the median of their longer sides
    cores: int  # that this process may use
    gpu: float | None = None  # GiB of memory that are free on it
    amx: bool = False  # whether the CPU multiplies matrices of bf16 in tiles
    processes: int = 1  # over which a batch is divided


@dataclass(frozen=True, slots=True)
class Shape:
    """Of the network that a run begins with."""

    size: int
    patch: int
    width: int
    depth: int


@dataclass(frozen=True, slots=True)
class Choices:
    """Options of `model.training.recipe.TrainingOptions`; None where there is no choice yet.

    After `choose`, it means the family's preset, no budget of time, and sheets and saves by the
    clock.
    """

    size: int | None = None
    patch: int | None = None
    width: int | None = None
    depth: int | None = None
    batch: int | None = None
    steps: int | None = None
    minutes: float | None = None
    compiled: bool | None = None
    sample_every: int | None = None
    save_every: int | None = None

    def on(self, before: Choices) -> Choices:
        """These, and those of ``before`` for the rest. Steps and minutes belong together."""
        ends = {"steps", "minutes"} if self.steps or self.minutes else set()
        kept = {key: value for key, value in asdict(before).items() if key not in ends}
        given = {key: value for key, value in asdict(self).items() if value is not None}
        return Choices(**{**kept, **given})


OLDER = Choices(size=64, batch=128, steps=20_000, compiled=True, sample_every=1000, save_every=500)
"""Of runs that were begun before there was a choice."""


@dataclass(frozen=True, slots=True)
class Row:
    """A network, its batch and the time that it is given, for up to ``images``."""

    images: float
    width: int
    depth: int
    batch: int
    minutes: float


CPU = (
    Row(200, width=128, depth=4, batch=16, minutes=10),
    Row(2_000, width=192, depth=6, batch=16, minutes=60),
    Row(float("inf"), width=256, depth=8, batch=32, minutes=240),
)
GPU = (
    Row(200, width=256, depth=8, batch=64, minutes=5),
    Row(2_000, width=256, depth=8, batch=128, minutes=20),
    Row(float("inf"), width=320, depth=8, batch=256, minutes=60),
)
"""On CPUs, a budget below a row's picks the largest network that has it."""


def choose(given: Choices, facts: Facts, init: Shape | None = None) -> Choices:
    """Whatever is not ``given``. A network that begins with another one has its shape."""
    rows = CPU if facts.gpu is None else GPU
    row = next(row for row in rows if facts.images <= row.images)
    minutes = given.minutes
    if minutes is None and given.steps is None:
        minutes = row.minutes
    if facts.gpu is None and minutes is not None and not (facts.amx or facts.cores >= 16):
        affordable = [one for one in rows if one.images <= row.images and one.minutes <= minutes]
        row = affordable[-1] if affordable else rows[0]
    if facts.gpu is not None and facts.gpu < SMALL_GPU:
        row = replace(row, batch=row.batch // 2)
    size = given.size or (init.size if init else _size(facts))
    grid = init.size // init.patch if init else GRID
    compiled = given.compiled
    if compiled is None:
        compiled = facts.gpu is not None or minutes is None or minutes >= LEAST_COMPILED
    return Choices(
        size=size,
        patch=given.patch or max(1, size // grid),
        width=given.width or (init.width if init else row.width),
        depth=given.depth or (init.depth if init else row.depth),
        batch=given.batch or -(-row.batch // facts.processes) * facts.processes,
        steps=given.steps or UNLIMITED,
        minutes=minutes,
        compiled=compiled,
        sample_every=given.sample_every,
        save_every=given.save_every,
    )


def _size(facts: Facts) -> int:
    """The largest that the images have, and that the machine trains in reasonable time."""
    most = SIZES[-2] if facts.gpu is None else SIZES[-1]
    return max(
        (size for size in SIZES if size <= most and (facts.side is None or size <= facts.side)),
        default=SIZES[0],
    )
