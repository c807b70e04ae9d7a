"""How good a checkpoint is, in figures that need no other network.

*Retrieval*: a picture is drawn from a prompt; is the nearest real picture (mean squared error at
32 × 32 on white) the one that was asked for? Real pictures that look alike at that size count as
one. Seeds and choices are fixed: the same checkpoint and numerics give the same figures.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.emoji import CHINESE_STYLE, Emoji, Split, read_pictures, read_records, select
from model.protocol import ImageModel, Picture, RowRequest
from model.report import contact_sheet, to_image
from model.sampling import generate

SIDE = 32
ALIKE = 0.02
"""Two real pictures whose root mean squared difference (0…1) is below this count as one."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with a 95 % interval (Wilson 1927)."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        z, n, p = 1.96, self.of, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: which pictures, asked for how."""

    style: str
    split: Split
    prompt: str
    retrieval: Share
    error: float  # median root mean squared difference to the true picture, 0…1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are drawn for a figure."""

    steps: int
    guidance: float
    seed: int = 0


class Gallery:
    """All real pictures, of every split, to find the nearest in."""

    def __init__(self, records: Sequence[Emoji]) -> None:
        self.records = list(records)
        self._pixels = np.stack([thumbnail(picture) for picture in read_pictures(records)])
        self._squares = np.square(self._pixels).sum(1)
        self._place = {(r.style, r.codepoints): index for index, r in enumerate(self.records)}

    def nearest(self, pixels: Floats, style: str | None) -> int:
        """The place of the picture with the least squared difference, within a style or all."""
        score = self._squares - 2 * self._pixels @ pixels
        if style is not None:
            score[~self._of(style)] = np.inf
        return int(score.argmin())

    def finds(self, pixels: Floats, wanted: Emoji, style: str | None) -> bool:
        """Whether the nearest picture is the wanted one, or looks like it."""
        nearest = self.nearest(pixels, style)
        found = self.records[nearest]
        twin = self._place.get((found.style, wanted.codepoints))
        return twin is not None and self._alike(nearest, twin)

    def _alike(self, one: int, other: int) -> bool:
        difference = np.square(self._pixels[one] - self._pixels[other]).mean()
        return math.sqrt(difference) < ALIKE

    def true(self, wanted: Emoji) -> Floats:
        """The real picture itself."""
        return self._pixels[self._place[wanted.style, wanted.codepoints]]

    def ceiling(self, style: str) -> Share:
        """Real pictures that no other of their style looks like: what drawing one cannot beat."""
        own = self._of(style)
        pixels, squares = self._pixels[own], self._squares[own]
        alone = 0
        for row in range(0, len(pixels), 256):  # in blocks, to bound memory
            some = slice(row, row + 256)
            distance = squares[some, None] + squares - 2 * pixels[some] @ pixels.T
            distance[np.arange(len(distance)), np.arange(row, row + len(distance))] = np.inf
            alone += int((distance.min(1) >= pixels.shape[1] * ALIKE**2).sum())
        return Share(alone, len(pixels))

    def _of(self, style: str) -> NDArray[np.bool_]:
        return np.array([record.style == style for record in self.records])


def thumbnail(image: Image.Image) -> Floats:
    """On white, at 32 × 32, flattened to [3072], 0…1."""
    rgba = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    small = flat.resize((SIDE, SIDE), Image.Resampling.BOX)
    values: Floats = np.asarray(small, dtype=np.float32).ravel() / np.float32(255)
    return values


def choose(records: Sequence[Emoji], count: int) -> list[Emoji]:
    """Up to ``count`` records, uniform over ``base``; the same ones every time."""
    groups: dict[str, list[Emoji]] = defaultdict(list)
    for record in records:
        groups[record.base].append(record)
    draw = random.Random(0)
    bases = draw.sample(sorted(groups), min(count, len(groups)))
    return [draw.choice(groups[base]) for base in bases]


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


def write_report(folder: Path, evaluation: EmojiEvaluation, lines: Sequence[Line]) -> None:
    """``report.json``, ``report.md`` and ``samples.png`` (pairs: drawn, then real)."""
    folder.mkdir(parents=True, exist_ok=True)
    ceilings = {style: evaluation.gallery.ceiling(style) for style in evaluation.styles}
    spec, sampling = evaluation.model.spec, evaluation.sampling
    report = {
        "model": spec.id,
        "digest": spec.digest,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "seed": sampling.seed,
        "lines": as_json(lines),
        "real pictures that stand alone": {s: round(c.value, 4) for s, c in ceilings.items()},
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    how = f"{sampling.steps} steps, guidance {sampling.guidance:g}, seed {sampling.seed}"
    text = [
        f"`{spec.id}` ({spec.digest[:12]}), {how}",
        "",
        as_markdown(lines),
        "",
        *(
            f"Real {s} pictures that no other of their style looks like: {c}."
            for s, c in ceilings.items()
        ),
    ]
    (folder / "report.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    pictures: list[Picture] = []
    captions: list[str] = []
    for (style, split), pairs in evaluation.drawn.items():
        some = pairs[:16]
        reals = read_pictures([record for record, _ in some])
        for (record, drawn), real in zip(some, reals, strict=True):
            small = real.resize((drawn.width, drawn.height), Image.Resampling.LANCZOS)
            pictures += [drawn, Picture(drawn.width, drawn.height, 4, small.tobytes())]
            captions += [record.name, f"real ({style}, {split})"]
    contact_sheet(pictures, captions, columns=16, scale=1).save(folder / "samples.png")


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Lines as plain data, rounded."""
    return [
        {
            "style": line.style,
            "split": line.split,
            "prompt": line.prompt,
            "hits": line.retrieval.hits,
            "of": line.retrieval.of,
            "retrieval": round(line.retrieval.value, 4),
            "interval": [round(bound, 4) for bound in line.retrieval.interval],
            "error": round(line.error, 4),
        }
        for line in lines
    ]


def as_markdown(lines: Sequence[Line]) -> str:
    """Lines as a table."""
    rows = [
        f"| {line.style} | {line.split} | {line.prompt} | {line.retrieval.of} "
        f"| {line.retrieval} | {line.error:.3f} |"
        for line in lines
    ]
    head = "| style | pictures | prompt | n | nearest real is the one asked for | median error |"
    return "\n".join([head, "| --- | --- | --- | ---: | --- | ---: |", *rows])
