"""How good images are after few steps and after many: the default is where more gain nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.data.emoji import Emoji, read_records, select
from model.evaluation.metrics import Encoder, kernel_distance, mse, on_white, quality, spread
from model.evaluation.report import Report, Share, plain, table
from model.evaluation.retrieval import Gallery, thumbnail
from model.evaluation.sampling import Sampler, choose_records, natives
from model.protocol import ImageModel
from model.request import Picture
from model.training.sheet import contact_sheet, to_image

SHOWN = 12
"""Prompts on the sheet, with a column for each count of steps."""


@dataclass(frozen=True, slots=True)
class StepsLine:
    """What one count of steps draws, of all styles together."""

    steps: int
    evaluations: int  # of the network, for one image
    found: Share  # the nearest real image of the style is the one that was asked for
    mse: float  # to the real image, on white, of values in 0…255
    ssim: float
    kid: float  # of as many images without a prompt, to all the real images
    coverage: float  # of the real images by these

    def __str__(self) -> str:
        return f"{self.steps} steps: {self.found}, squared error {self.mse:.0f}"


class StepsEvaluation:
    """``count`` prompts of each style, of images that were trained on. Raises ``DataError``."""

    def __init__(
        self,
        model: ImageModel[Any],
        given: dict[str, float],
        folders: Sequence[Path],
        encoder: Encoder,
        counts: Sequence[int],
        count: int,
    ) -> None:
        self._samplers = [Sampler(model, {**given, "steps": float(steps)}) for steps in counts]
        self._encoder = encoder
        records = read_records(folders)
        self._gallery = Gallery(records)
        styles = sorted({record.style for record in records})
        seen = select(records, "train")
        self._records = [
            record
            for style in styles
            for record in choose_records([r for r in seen if r.style == style], count)
        ]
        self._count = count
        self._lines: list[StepsLine] = []
        self._drawn: list[list[Picture]] = []

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        return 2 * len(self._records) * sum(sampler.steps for sampler in self._samplers)

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[StepsLine]:
        """One count after the other."""
        real = natives(self._samplers[0].spec, self._records)
        reals, known = [on_white(picture) for picture in real], self._encoder.features(real)
        for sampler in self._samplers:
            drawn = sampler.draw([record.caption for record in self._records], on_step)
            values = [on_white(picture) for picture in drawn]
            count = len(self._records)
            others = self._encoder.features(sampler.draw([""] * count, on_step, range(count)))
            line = StepsLine(
                steps=sampler.steps,
                evaluations=sampler.steps * sampler.model.cost(sampler.request("a picture")),
                found=self._found(drawn),
                mse=float(np.mean(mse(values, reals))) * 255**2,
                ssim=quality(values, reals).ssim,
                kid=kernel_distance(known, others),
                coverage=spread(known, others).coverage,
            )
            self._lines.append(line)
            self._drawn.append(drawn)
            yield line

    def _found(self, drawn: Sequence[Picture]) -> Share:
        pairs = zip(self._records, drawn, strict=True)
        hits = [self._finds(record, picture) for record, picture in pairs]
        return Share(sum(hits), len(hits))

    def _finds(self, record: Emoji, picture: Picture) -> bool:
        return self._gallery.finds(thumbnail(to_image(picture)), record, record.style)

    def report(self) -> Report:
        """Of what `run` has found."""
        named = ("steps", "evaluations", "nearest real is the one asked for", "MSE", "SSIM")
        head = (*named, "without a prompt: KID", "coverage")
        rows = [
            (
                *(str(line.steps), str(line.evaluations), str(line.found)),
                *(f"{line.mse:.0f}", f"{line.ssim:.3f}"),
                *(f"{line.kid:.4f}", f"{line.coverage:.3f}"),
            )
            for line in self._lines
        ]
        columns = [drawn[row] for row in self._shown() for drawn in self._drawn]
        captions = [
            f"{self._records[row].caption}: {line.steps}"
            for row in self._shown()
            for line in self._lines
        ]
        return Report(
            name="steps",
            spec=self._samplers[0].spec,
            how=f"{self._count} prompts of each style",
            tables=[table(head, "rrlrrrr", rows)],
            figures={"lines": plain(self._lines)},
            sheet=contact_sheet(columns, captions, columns=len(self._lines)),
            shows="the same images after more and more steps",
            file="steps.png",
        )

    def _shown(self) -> range:
        return range(0, len(self._records), max(1, len(self._records) // SHOWN))
