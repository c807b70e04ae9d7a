"""How well a checkpoint repairs pictures that it has never seen, beside methods without a model.

A real picture is spoiled, repaired, and compared with itself on white. One sample from a model of
pictures has about twice the squared error of their mean (its own spread comes on top), so both
are measured: one sample, and the mean of several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.data.emoji import read_pictures, read_records, select
from model.data.pictures import DataError
from model.evaluation.damage import TASKS, Task
from model.evaluation.quality import Example, Quality, native, on_white, quality
from model.evaluation.sampling import Sampling, choose
from model.protocol import ImageModel, RowRequest
from model.sampling import generate


@dataclass(frozen=True, slots=True)
class RepairLine:
    """One task's figures. ``baseline`` is the best by PSNR of those in ``others``."""

    task: str
    of: int
    one: Quality
    mean: Quality
    baseline: str
    others: dict[str, Quality]

    @property
    def better(self) -> bool:
        """Whether the mean of the samples beats every baseline in both figures."""
        best = self.others.values()
        return all(self.mean.psnr > b.psnr and self.mean.ssim > b.ssim for b in best)


class RepairEvaluation:
    """Every task on the held-out pictures, ``count`` of them, asked for by name and style.

    Raises ``DataError`` where a set is broken, or nothing of it is held out.
    """

    def __init__(
        self, model: ImageModel[Any], folders: Sequence[Path], sampling: Sampling, count: int
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.examples: list[Example] = []
        every = read_records(folders)
        held_out = [*select(every, "held-out style"), *select(every, "held-out tone")]
        if not held_out:
            raise DataError("none of these pictures is held out of training")
        self._records = choose(held_out, count)
        self._pictures = [native(model.spec, image) for image in read_pictures(self._records)]

    @property
    def steps(self) -> int:
        """Solver steps that `run` takes, for a progress bar."""
        each = sum((task.steps or self.sampling.steps) * task.samples for task in TASKS)
        return each * len(self._records)

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[RepairLine]:
        """Spoils, repairs and scores, one task after the other."""
        for task in TASKS:
            yield self._line(task, on_step)

    def _line(self, task: Task, on_step: Callable[[int], None]) -> RepairLine:
        spoiled = [
            task.spoil(picture, np.random.default_rng([self.sampling.seed, index]))
            for index, picture in enumerate(self._pictures)
        ]
        requests = [
            RowRequest(
                record.caption,
                self.sampling.seed + sample,
                task.steps or self.sampling.steps,
                self.sampling.guidance,
                operation=task.operation,
                source=source,
            )
            for record, source in zip(self._records, spoiled, strict=True)
            for sample in range(task.samples)
        ]
        made = list(generate(self.model, requests, on_step))
        groups = [made[at : at + task.samples] for at in range(0, len(made), task.samples)]
        reals = [on_white(picture) for picture in self._pictures]
        self.examples += [
            Example(task.name, source.picture, group[0], real)
            for source, group, real in zip(spoiled, groups, self._pictures, strict=True)
        ]
        others = {
            name: quality([baseline(source) for source in spoiled], reals)
            for name, baseline in task.baselines.items()
        }
        return RepairLine(
            task=task.name,
            of=len(reals),
            one=quality([on_white(group[0]) for group in groups], reals),
            mean=quality([np.mean([on_white(one) for one in group], 0) for group in groups], reals),
            baseline=max(others, key=lambda name: others[name].psnr),
            others=others,
        )
