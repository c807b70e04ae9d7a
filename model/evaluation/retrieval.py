"""*Retrieval*: is the nearest real picture the one that was asked for?

A picture is drawn from a prompt; nearest is by mean squared error at 32 × 32 on white. Real
pictures that look alike at that size count as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.data.emoji import CHINESE_STYLE, Emoji, Split, read_records, select
from model.evaluation.gallery import Gallery, thumbnail
from model.evaluation.sampling import Sampling, choose
from model.evaluation.share import Share
from model.protocol import ImageModel, Picture, RowRequest
from model.report import to_image
from model.sampling import generate


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: which pictures, asked for how."""

    style: str
    split: Split
    prompt: str
    retrieval: Share
    error: float  # median root mean squared difference to the true picture, 0…1

    def __str__(self) -> str:
        return f"{self.style}, {self.split}, {self.prompt}: {self.retrieval}"


def _two_keywords(record: Emoji) -> str:
    return f"{', '.join(record.keywords[:2])}, {record.style} style"


def _article(record: Emoji) -> str:
    return (
        f"{'an' if record.name[0].lower() in 'aeiou' else 'a'} {record.name}, {record.style} style"
    )


def _chinese(record: Emoji) -> str:
    return f"{record.chinese}，{CHINESE_STYLE[record.style]}"


NAME, NO_STYLE = "name, style", "name without style"
SPLITS: tuple[Split, ...] = ("train", "held-out style", "held-out tone")
PHRASINGS: dict[str, Callable[[Emoji], str]] = {
    NAME: lambda record: record.caption,
    "a name, style": _article,
    "two keywords, style": _two_keywords,
    "name in Chinese": _chinese,
    NO_STYLE: lambda record: record.name,
}


@dataclass(frozen=True, slots=True)
class Job:
    """The pictures behind one line."""

    style: str
    split: Split
    phrasing: str
    records: list[Emoji]


class EmojiEvaluation:
    """Retrieval for every style, split and phrasing that a model can be asked."""

    def __init__(
        self, model: ImageModel[Any], folders: Sequence[Path], sampling: Sampling, count: int
    ) -> None:
        self.model = model
        self.sampling = sampling
        self._count = count
        self._records = read_records(folders)
        self.gallery = Gallery(self._records)
        self.styles = sorted({record.style for record in self._records})
        self.drawn: dict[tuple[str, Split], list[tuple[Emoji, Picture]]] = {}

    def plan(self) -> list[Job]:
        """What will be drawn."""
        jobs: list[Job] = []
        for style in self.styles:
            for split in SPLITS:
                rows = [r for r in select(self._records, split) if r.style == style]
                if rows:
                    jobs.append(Job(style, split, NAME, choose(rows, self._count)))
            rows = [r for r in select(self._records, "train") if r.style == style]
            few = choose([r for r in rows if len(r.keywords) > 1], self._count // 4)
            jobs.extend(Job(style, "train", name, few) for name in PHRASINGS if name != NAME)
        return jobs

    def counts(self) -> dict[str, int]:
        """Of each style, the pictures that are drawn by name, as in training."""
        return {
            job.style: len(job.records)
            for job in self.plan()
            if (job.split, job.phrasing) == ("train", NAME)
        }

    def by_name(self) -> dict[str, list[tuple[Emoji, Picture]]]:
        """What `run` has drawn of these."""
        return {style: pairs for (style, split), pairs in self.drawn.items() if split == "train"}

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[Line]:
        """Draws and scores, one line after the other."""
        for job in self.plan():
            hits, errors = 0, []
            requests = [
                RowRequest(
                    PHRASINGS[job.phrasing](record),
                    self.sampling.seed,
                    self.sampling.steps,
                    self.sampling.guidance,
                )
                for record in job.records
            ]
            pictures = generate(self.model, requests, on_step)
            for record, picture in zip(job.records, pictures, strict=True):
                pixels = thumbnail(to_image(picture))
                style = None if job.phrasing == NO_STYLE else job.style
                hits += self.gallery.finds(pixels, record, style)
                errors.append(float(np.sqrt(np.square(pixels - self.gallery.true(record)).mean())))
                if job.phrasing == NAME:
                    self.drawn.setdefault((job.style, job.split), []).append((record, picture))
            share = Share(hits, len(job.records))
            yield Line(job.style, job.split, job.phrasing, share, float(np.median(errors)))
