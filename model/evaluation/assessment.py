"""Retrieval, resemblance and speed of one checkpoint, from the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from model.data.emoji import read_pictures
from model.evaluation.metrics import Encoder
from model.evaluation.report import Report, Share, plain, table
from model.evaluation.resemblance import Resemblance, SetEvaluation, SetLine
from model.evaluation.retrieval import NAME, Line, RetrievalEvaluation, retrieval_table
from model.evaluation.sampling import Sampler
from model.protocol import ImageModel
from model.request import Picture
from model.runtime.benchmark import Speed, measure_speed
from model.runtime.numerics import device_name
from model.training.sheet import contact_sheet

NONE = "–"
PROMPT = "red apple"  # drawn against the clock

READING = """\
MSE and SSIM of *real* are to the most similar picture of another symbol. Density, coverage and KID
compare with pictures of symbols that were not asked for, and *real* are those that were, so that a
perfect model equals it. MS-SSIM between pictures is low where they differ."""


class Assessment:
    """``count`` prompts of each style. Raises ``DataError`` where a set is broken.

    Speed is that of ``served``, the same model with the tile that serves, on ``device``.
    """

    def __init__(
        self,
        sampler: Sampler,
        served: ImageModel[Any],
        folders: Sequence[Path],
        encoder: Encoder,
        *,
        count: int,
        device: str = "cpu",
    ) -> None:
        self.sampler = sampler
        self.device = device_name(device)
        self.lines: list[Line] = []
        self.sets: list[SetLine] = []
        self.speed: Speed  # once `run` has ended
        self._served = served
        self._retrieval = RetrievalEvaluation(sampler, folders, count)
        self._sets = SetEvaluation(sampler, self._retrieval.gallery, encoder)

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        return self._retrieval.steps + self._sets.steps(self._retrieval.counts())

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[Line | SetLine]:
        """Draws and compares, one line after the other, then draws against the clock."""
        for line in self._retrieval.run(on_step):
            self.lines.append(line)
            yield line
        for of_set in self._sets.run(self._retrieval.by_name(), on_step):
            self.sets.append(of_set)
            yield of_set
        self.speed = measure_speed(self._served, self.sampler.request(PROMPT))

    @cached_property
    def ceilings(self) -> dict[str, Share]:
        """By style, the real images that no other of their style looks like."""
        gallery = self._retrieval.gallery
        return {style: gallery.ceiling(style) for style in self._retrieval.styles}

    def report(self) -> Report:
        """Of what `run` has found. Times are under "speed" and nowhere else."""
        speed = self.speed
        tables = [retrieval_table(self.lines)]
        tables += [
            f"Real {style} pictures that no other of their style looks like: {share}."
            for style, share in self.ceilings.items()
        ]
        if self.sets:
            tables += [figure_tables({self.sampler.spec.id: self}), READING]
        tables.append(speed_line(speed, self.device))
        return Report(
            name="report",
            spec=self.sampler.spec,
            how=str(self.sampler),
            tables=tables,
            figures={
                **self.sampler.as_json(),
                "lines": plain(self.lines),
                "real pictures that stand alone": plain(self.ceilings),
                "sets": plain(self.sets),
                "speed": plain(speed) | {"device": self.device},
            },
            sheet=self._sheet(),
            shows="drawn, and the real one beside it",
            file="samples.png",
        )

    def _sheet(self) -> Image.Image:
        """Pairs: drawn, then real."""
        pictures: list[Picture] = []
        captions: list[str] = []
        for (style, split), pairs in self._retrieval.drawn.items():
            some = pairs[:16]
            reals = read_pictures([record for record, _ in some])
            for (record, drawn), real in zip(some, reals, strict=True):
                pictures += [drawn, resized(real, drawn)]
                captions += [record.name, f"real ({style}, {split})"]
        return contact_sheet(pictures, captions, columns=16, scale=1)


def speed_line(speed: Speed, device: str) -> str:
    """A sentence."""
    return (
        f"{speed.images_per_second:.2f} pictures/s with a tile of {speed.tile} full, "
        f"{1000 * speed.image_seconds:.0f} ms for one alone ({device})."
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that every set of images has, or some have."""

    name: str
    better: str
    of: Callable[[Resemblance], float | None]
    digits: int = 3

    def text(self, figures: Resemblance) -> str:
        """`NONE` where the set does not have it."""
        value = self.of(figures)
        return NONE if value is None else f"{value:.{self.digits}f}"


FIGURES = (
    Figure("MSE to its own real picture", "low", lambda r: r.to_own.mse if r.to_own else None, 4),
    Figure("SSIM to its own real picture", "high", lambda r: r.to_own.ssim if r.to_own else None),
    Figure("density", "as real", lambda r: r.density),
    Figure("coverage", "high", lambda r: r.coverage),
    Figure("KID", "low", lambda r: r.kid, 4),
    Figure("MS-SSIM between pictures", "as real", lambda r: r.ms_ssim),
    Figure("MS-SSIM between seeds of a prompt", "low", lambda r: r.seeds),
)


def figure_tables(models: Mapping[str, Assessment]) -> str:
    """A table for each set of images: a row for each figure, a column for each model.

    The last column is of real images; all assessments are of the same ones.
    """
    names = dict.fromkeys(line.pictures for model in models.values() for line in model.sets)
    return "\n\n".join(_figure_table(name, models) for name in names)


def _figure_table(pictures: str, models: Mapping[str, Assessment]) -> str:
    columns = [
        next((line for line in model.sets if line.pictures == pictures), None)
        for model in models.values()
    ]
    known = [line for line in columns if line]
    rows = []
    found = [_retrieval(model, pictures) for model in models.values()]
    if any(line is not None for line in found):
        ceiling = next(iter(models.values())).ceilings[pictures]
        drawn = [NONE if line is None else f"{line.retrieval.value:.1%}" for line in found]
        rows.append(["retrieval", "high", *drawn, f"{ceiling.value:.1%}"])
    for figure in FIGURES:
        cells = [figure.text(line.drawn) if line else NONE for line in columns]
        if any(cell != NONE for cell in cells):
            rows.append([figure.name, figure.better, *cells, figure.text(known[0].real)])
    head = [f"{pictures}, {max(line.of for line in known)} pictures", "better", *models, "real"]
    return table(head, "ll" + "r" * (len(models) + 1), rows)


def _retrieval(model: Assessment, style: str) -> Line | None:
    """Of images drawn by name and style, as in training."""
    asked = (style, "train", NAME)
    return next((x for x in model.lines if (x.style, x.split, x.prompt) == asked), None)


def resized(real: Image.Image, like: Picture) -> Picture:
    """A real image, RGBA, as large as a drawn one."""
    small = real.resize((like.width, like.height), Image.Resampling.LANCZOS)
    return Picture(like.width, like.height, 4, small.tobytes())
