"""Figures of a model on any captioned images, with those of real images beside them.

Half of the images (of each at most ``count``) are asked for by their captions; the other half is
what both these and what was drawn in their place are compared with as a set. So a model that draws
as the images are made has the figures of the real ones.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint, TokenizedCheckpoint
from model.data import load
from model.data.pictures import DataError, PictureFormat
from model.evaluation.assessment import FIGURES, PROMPT, speed_line
from model.evaluation.metrics import NEIGHBOURS, Encoder
from model.evaluation.report import Report, Share, plain, table
from model.evaluation.resemblance import (
    PROMPTS,
    SEEDS,
    SetLine,
    resemblance,
    similarity_of_seeds,
)
from model.evaluation.retrieval import ALIKE, thumbnail
from model.evaluation.sampling import Sampler, from_premultiplied
from model.protocol import ImageModel
from model.request import InvalidField, Picture
from model.runtime.benchmark import Speed, measure_speed
from model.runtime.numerics import device_name
from model.training.sheet import contact_sheet, to_image

MOST = 5000
"""Images among which the nearest is looked for: more take gigabytes."""

LEAST = 2 * (NEIGHBOURS + 1)
SHOWN = 24

READING = """\
*Retrieval*: is the real image that looks most like it (mean squared error at 32 × 32) one with the
caption that was asked for? MSE and SSIM are to that one of them which looks most like it. *Real* is
an image of the set in the place of the drawn one, compared with the others of its caption; where it
is the only one, it counts as retrieved if no other looks like it, and MSE and SSIM are to the most
similar one. Density, coverage and KID compare with images that were not asked for. MS-SSIM between
pictures is low where they differ."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Of what was drawn, and of real images in its place."""

    drawn: Share
    real: Share

    def __str__(self) -> str:
        return f"retrieval {self.drawn} (real {self.real})"


class OwnImages:
    """Measures a model on the images of a folder. Raises ``DataError`` where they are too few.

    Speed is that of ``served``, the same model with the tile that serves, on ``device``.
    """

    def __init__(
        self,
        sampler: Sampler,
        served: ImageModel[Any],
        checkpoint: Checkpoint,
        folder: Path,
        encoder: Encoder,
        *,
        count: int,
        device: str = "cpu",
    ) -> None:
        spec = sampler.spec
        width, height = spec.sizes.native
        if width != height:
            raise DataError(f"{spec.id} draws {width}x{height}, only squares can be compared")
        self.sampler = sampler
        self.device = device_name(device)
        self._served = served
        self._encoder = encoder
        data = load([folder], PictureFormat(width, 4 if spec.channels == 4 else 3))
        self.name = data.name
        rows, self.notes = _accepted(checkpoint, data.captions)
        self.notes = [*data.notes, *self.notes]
        if len(rows) < LEAST:
            raise DataError(f"{folder}: has {len(rows)} images, at least {LEAST} are needed")
        random.Random(0).shuffle(rows)
        del rows[max(MOST, 2 * count) :]
        half = min(count, len(rows) // 2)
        # The asked ones, those that they are compared with, then what else there is to retrieve.
        self._captions = [caption for _, caption in rows]
        self._half = half
        self._reals = [
            from_premultiplied(data.pictures[row].transpose(1, 2, 0) / 255.0) for row, _ in rows
        ]
        self._thumbnails = np.stack([thumbnail(to_image(real)) for real in self._reals])
        self._drawn: list[Picture] = []
        self.retrieval: Retrieval  # once `run` has ended, as with those that follow
        self.line: SetLine
        self.speed: Speed

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        return (self._half + min(PROMPTS, self._half) * (SEEDS - 1)) * self.sampler.steps

    def run(
        self, on_step: Callable[[int], None] = lambda steps: None
    ) -> Iterator[Retrieval | SetLine]:
        """Draws and compares, then draws against the clock."""
        half, captions = self._half, self._captions[: self._half]
        self._drawn = self.sampler.draw(captions, on_step, seeds=range(half))
        drawn = [self._nearest(thumbnail(to_image(one)), at) for at, one in enumerate(self._drawn)]
        real = [self._nearest(self._thumbnails[at], at, own=True) for at in range(half)]
        self.retrieval = Retrieval(_share(drawn), _share(real))
        yield self.retrieval
        seeds = similarity_of_seeds(
            self.sampler, list(zip(captions, self._drawn, range(half), strict=True)), on_step
        )
        known = self._reals[half : 2 * half]
        self.line = SetLine(
            self.name,
            half,
            resemblance(self._encoder, self._drawn, known, self._alike(drawn), seeds),
            resemblance(self._encoder, self._reals[:half], known, self._alike(real)),
        )
        yield self.line
        self.speed = measure_speed(self._served, self.sampler.request(PROMPT))

    def report(self) -> Report:
        """Of what `run` has found. Times are under "speed" and nowhere else."""
        head = [f"{self.name}, {self._half} pictures", "better", self.sampler.spec.id, "real"]
        shares = (self.retrieval.drawn, self.retrieval.real)
        rows = [["retrieval", "high", *(f"{share.value:.1%}" for share in shares)]]
        rows += [
            [figure.name, figure.better, figure.text(self.line.drawn), figure.text(self.line.real)]
            for figure in FIGURES
        ]
        return Report(
            name="report",
            spec=self.sampler.spec,
            how=str(self.sampler),
            tables=[
                table(head, "llrr", rows),
                READING,
                *self.notes,
                speed_line(self.speed, self.device),
            ],
            figures={
                **self.sampler.as_json(),
                "images": len(self._reals),
                "notes": self.notes,
                "retrieval": plain(self.retrieval),
                "sets": plain([self.line]),
                "speed": plain(self.speed) | {"device": self.device},
            },
            sheet=contact_sheet(*self._pairs(), columns=16, scale=_scale(self._reals[0])),
            shows="drawn, and a real one of the same caption beside it",
            file="samples.png",
        )

    def _pairs(self) -> tuple[list[Picture], list[str]]:
        pictures: list[Picture] = []
        captions: list[str] = []
        some = zip(self._drawn, self._reals, self._captions[:SHOWN], strict=False)
        for drawn, real, caption in some:
            pictures += [drawn, real]
            captions += [caption or "(no caption)", "real"]
        return pictures, captions

    def _nearest(self, pixels: NDArray[np.float32], at: int, *, own: bool = False) -> _Found:
        """In the set, for what was drawn in the place of image ``at``, or is that (``own``)."""
        caption = self._captions[at]
        distance = np.square(self._thumbnails - pixels).mean(1)
        same = np.array([other == caption for other in self._captions])
        if own:
            distance[at] = np.inf
            same[at] = False
            if not same.any():  # it is the only one of its caption
                return _Found(bool(distance.min() >= ALIKE**2), int(distance.argmin()))
        nearest, twin = int(distance.argmin()), int(np.where(same, distance, np.inf).argmin())
        # Images that look alike count as one: nobody could draw the difference.
        hit = distance[twin] <= distance[nearest] or self._look_alike(nearest, twin)
        return _Found(bool(hit), twin)

    def _look_alike(self, one: int, other: int) -> bool:
        difference = np.square(self._thumbnails[one] - self._thumbnails[other]).mean()
        return bool(difference < ALIKE**2)

    def _alike(self, found: Sequence[_Found]) -> list[Picture]:
        return [self._reals[one.position] for one in found]


@dataclass(frozen=True, slots=True)
class _Found:
    """What of the set looks most like an image."""

    hit: bool  # whether it has the right caption
    position: int  # of that which has the caption and looks most like it


def _share(found: Sequence[_Found]) -> Share:
    return Share(sum(one.hit for one in found), len(found))


def _accepted(
    checkpoint: Checkpoint, captions: Sequence[str]
) -> tuple[list[tuple[int, str]], list[str]]:
    """Rows with the captions that the model takes, and what to say of the others."""
    rows: list[tuple[int, str]] = []
    happened: Counter[str] = Counter()
    for row, caption in enumerate(captions):
        text = caption
        try:
            checkpoint.check_prompt(caption, "prompt")
        except InvalidField:
            if not isinstance(checkpoint, TokenizedCheckpoint):
                happened["left out"] += 1
                continue
            happened["cut"] += 1
            text = checkpoint.tokenizer.shortened(caption, checkpoint.spec.max_prompt_tokens)
        rows.append((row, text))
    most = checkpoint.spec.max_prompt_tokens
    return rows, [
        f"{count} images have captions of more than {most} tokens, which the model does not take: "
        f"they are {what}"
        for what, count in happened.items()
    ]


def _scale(picture: Picture) -> int:
    """Small images are enlarged."""
    return max(1, 64 // picture.width)
