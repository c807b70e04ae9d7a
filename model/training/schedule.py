"""When a run ends, shows what it can do and saves: by steps, or by the clock.

No draw and no weight depends on the clock but by the number of steps, which is kept with the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from model.training.optimizer import OptimizerConfig

FREE = ("steps", "sample_every", "save_every", "learning_rate", "cooldown", "minutes")

FIRST_SHEET = 60.0
"""Seconds; a fifth of a budget that is shorter than five minutes."""

NEXT_SHEET = 1.6
"""Each comes after so many times the last one's time."""

SAVE = 60.0
"""Seconds between saves that are not asked for by steps."""

SAVING = 0.02
"""The most of its time that a run spends on those."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. When it is resumed, `FREE` may change, the rest may not."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 20_000
    batch: int = 128  # images a step, over all processes
    average: float = 0.995  # decay of the weights' moving average, which is what ships
    seed: int = 0
    sample_every: int | None = 1000  # steps; None: by the clock, ever more rarely
    save_every: int | None = 500  # steps; None: by the clock
    minutes: float | None = None  # after which a run ends that `steps` do not end earlier

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed."""
        values = asdict(self)
        optimizer = values.pop("optimizer")
        return {
            "optimizer": {key: value for key, value in optimizer.items() if key not in FREE},
            **{key: value for key, value in values.items() if key not in FREE},
        }


class Schedule:
    """What follows from the time that a run has taken.

    With a budget of ``minutes``, the number of steps: it is estimated after each of them, up to
    where the learning rate begins to fall, and is settled then.
    """

    WARM = 3
    """Steps that are no measure of others: the first ones compile."""

    MEASURED = 10
    """Steps after those that are."""

    def __init__(self, config: TrainConfig, step: int, before: Mapping[str, Any]) -> None:
        """``step`` steps are done; ``before`` is the `state` of the process that did them."""
        same = config.minutes is not None and before.get("minutes") == config.minutes
        settled = before.get("settled") if same else None
        self.steps: int = config.steps if settled is None else settled
        self.seconds = float(before.get("seconds", 0))  # that the run has taken
        self.sheet_due = self.save_due = False
        self._config = config
        self._settled = config.minutes is None or settled is not None
        self._step = step
        self._first = step + self.WARM
        self._last = time.perf_counter()
        self._warm = self.seconds
        self._each: float | None = None
        self._saved = self.seconds
        self._budget = math.inf if config.minutes is None else 60 * config.minutes
        self._sheet = min(FIRST_SHEET, self._budget / 5)
        while self._sheet <= self.seconds:
            self._sheet *= NEXT_SHEET
        self._save = SAVE

    @property
    def state(self) -> dict[str, Any]:
        """What the next process needs of it."""
        minutes = self._config.minutes
        settled = self.steps if self._settled and minutes is not None else None
        return {"settled": settled, "minutes": minutes, "seconds": self.seconds}

    @property
    def left(self) -> float | None:
        """Seconds; None where they are not known yet."""
        if self._each is not None:
            return (self.steps - self._step) * self._each
        return None if self._settled else max(0.0, self._budget - self.seconds)

    @property
    def measured(self) -> bool:
        """Whether enough steps have shown how long one takes."""
        return self._step >= self._first + self.MEASURED

    def done(self, step: int) -> None:
        """``step`` steps are done."""
        config = self._config
        self._pass_time()
        self._step = step
        if step <= self._first:
            self._warm = self.seconds
            if not self._settled and self.seconds >= self._budget:
                self.steps, self._settled = step, True
        else:
            self._each = (self.seconds - self._warm) / (step - self._first)
            if not self._settled:
                left = self._budget - self.seconds
                more = int(left / self._each) if self._each else config.steps
                self.steps = min(config.steps, max(step, step + more))
                falls = self.steps - round(self.steps * config.optimizer.cooldown)
                self._settled = step >= falls
        last = step >= self.steps
        self.sheet_due = last or (
            self.seconds >= self._sheet
            if config.sample_every is None
            else step % config.sample_every == 0
        )
        self.save_due = self.sheet_due or (
            self.seconds - self._saved >= self._save
            if config.save_every is None
            else step % config.save_every == 0
        )

    def saved(self, seconds: float) -> None:
        """A save has taken so long."""
        self._pass_time()
        self._saved = self.seconds
        self._save = max(SAVE, seconds / SAVING)

    def shown(self) -> None:
        """A sheet has been drawn."""
        self._pass_time()
        while self._sheet <= self.seconds:
            self._sheet *= NEXT_SHEET

    def follow(self, steps: int, sheet_due: bool, save_due: bool) -> None:
        """Takes over what another process decided."""
        self.steps, self.sheet_due, self.save_due = steps, sheet_due, save_due

    def _pass_time(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._last
        self._last = now
