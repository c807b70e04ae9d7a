"""All figures of one checkpoint, from the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, Dtype, load_model
from model.evaluation.encoder import Encoder
from model.evaluation.report import Report
from model.evaluation.resemblance import SetEvaluation, SetLine
from model.evaluation.retrieval import EmojiEvaluation, Line
from model.evaluation.sampling import Sampling
from model.evaluation.speed import measure_speed
from model.numerics import device_name
from model.protocol import ImageModel

TILE = 32


class Assessment:
    """Retrieval, resemblance and speed. Raises ``DataError`` where a set is broken.

    ``count`` prompts of each style; ``steps`` and ``guidance`` are the model's where not given.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        folders: Sequence[Path],
        encoder: Encoder,
        *,
        count: int,
        steps: int | None = None,
        guidance: float | None = None,
        device: str = "cpu",
        dtype: Dtype = "auto",
    ) -> None:
        spec = checkpoint.spec
        self._sampling = Sampling(
            steps=int(spec.steps.default) if steps is None else steps,
            guidance=spec.guidance.default if guidance is None else guidance,
        )
        self._checkpoint = checkpoint
        self._device = device
        self._dtype = dtype
        model = self._load(TILE)
        self.prompted = EmojiEvaluation(model, folders, self._sampling, count)
        self._sets = SetEvaluation(model, self.prompted.gallery, encoder, self._sampling)

    @property
    def steps(self) -> int:
        """Steps that `run` takes, for a progress bar."""
        pictures = sum(len(job.records) for job in self.prompted.plan())
        return (pictures + self._sets.more(self.prompted.counts())) * self._sampling.steps

    def run(
        self,
        on_step: Callable[[int], None] = lambda steps: None,
        on_line: Callable[[Line | SetLine], None] = lambda line: None,
    ) -> Report:
        """Draws and compares, then draws against the clock."""
        lines, sets = [], []
        for line in self.prompted.run(on_step):
            lines.append(line)
            on_line(line)
        for of_set in self._sets.run(self.prompted.by_name(), on_step):
            sets.append(of_set)
            on_line(of_set)
        gallery, spec = self.prompted.gallery, self._checkpoint.spec
        return Report(
            model=spec.id,
            family=spec.family,
            digest=spec.digest,
            sampling=self._sampling,
            lines=lines,
            ceilings={style: gallery.ceiling(style) for style in self.prompted.styles},
            sets=sets,
            speed=measure_speed(self._load(), self._sampling),
            device=device_name(self._device),
        )

    def _load(self, tile: int | None = None) -> ImageModel[Any]:
        """With the tile that serves, where none is given."""
        return load_model(self._checkpoint, device=self._device, dtype=self._dtype, tile=tile)
