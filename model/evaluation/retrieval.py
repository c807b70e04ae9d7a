"""*Retrieval*: is the nearest real image the one that was asked for?

An image is drawn from a prompt; nearest is by mean squared error at 32 × 32 on white. Real images
that look alike at that size count as one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.emoji import Emoji, Split, read_pictures, read_records, select
from model.evaluation.metrics import flat
from model.evaluation.report import Share, table
from model.evaluation.sampling import Sampler, choose_records
from model.request import Picture
from model.training.sheet import to_image

SIDE = 32
ALIKE = 0.02
"""Two real images whose root mean squared difference (0…1) is below this count as one."""

Thumbnail = NDArray[np.float32]


class Gallery:
    """All real images, of every split, to find the nearest in."""

    def __init__(self, records: Sequence[Emoji]) -> None:
        self.records = sorted(records, key=lambda record: record.style)
        self._pixels = np.stack([thumbnail(image) for image in read_pictures(self.records)])
        self._squares = np.square(self._pixels).sum(1)
        self._places = _places([record.style for record in self.records])
        self._index = {(r.style, r.codepoints): index for index, r in enumerate(self.records)}

    def finds(self, pixels: Thumbnail, wanted: Emoji, style: str | None) -> bool:
        """Whether the nearest image, of a style or of all, is the wanted one or looks like it."""
        places = self._of(style)
        nearest = places.start + int(self._distance(pixels, places).argmin())
        counterpart = self._index.get((self.records[nearest].style, wanted.codepoints))
        return counterpart is not None and self._alike(nearest, counterpart)

    def twins_find(self, wanted: Emoji) -> bool | None:
        """Whether a real image of the same symbol, in any other style in which it may be trained
        on, is nearest to the wanted one in that one's style; None where there is no such image."""
        others = (style for style in self._places if style != wanted.style)
        found = (self._index.get((style, wanted.codepoints)) for style in others)
        twins = [i for i in found if i is not None and self.records[i].split == "train"]
        if not twins:
            return None
        return any(self.finds(self._pixels[index], wanted, wanted.style) for index in twins)

    def ranking(self, pixels: Thumbnail, style: str, count: int) -> list[Emoji]:
        """The nearest images of a style, nearest first, one of each of ``count`` symbols."""
        places = self._of(style)
        ranked: dict[str, Emoji] = {}
        for index in places.start + self._distance(pixels, places).argsort(kind="stable"):
            ranked.setdefault(self.records[index].base, self.records[index])
            if len(ranked) == count:
                break
        return list(ranked.values())

    def shows(self, found: Emoji, wanted: Emoji) -> bool:
        """Whether an image is of the wanted symbol, in any skin tone, or looks like its image."""
        if (found.style, found.base) == (wanted.style, wanted.base):
            return True
        return self._alike(self._index_of(found), self._index_of(wanted))

    def _distance(self, pixels: Thumbnail, places: slice) -> NDArray[np.float32]:
        """To the images there, squared, less a constant."""
        distance: NDArray[np.float32] = self._squares[places] - 2 * self._pixels[places] @ pixels
        return distance

    def _index_of(self, record: Emoji) -> int:
        return self._index[record.style, record.codepoints]

    def _alike(self, one: int, other: int) -> bool:
        difference = np.square(self._pixels[one] - self._pixels[other]).mean()
        return math.sqrt(difference) < ALIKE

    def neighbour(self, record: Emoji) -> Emoji:
        """The image of another symbol, in the same style, that looks most like this one."""
        places = self._of(record.style)
        distance = self._distance(self.true(record), places)
        distance[[other.base == record.base for other in self.records[places]]] = np.inf
        return self.records[places.start + int(distance.argmin())]

    def true(self, wanted: Emoji) -> Thumbnail:
        """The real image itself."""
        return self._pixels[self._index_of(wanted)]

    def ceiling(self, style: str) -> Share:
        """Real images that no other of their style looks like: what drawing one cannot beat."""
        own = self._of(style)
        pixels, squares = self._pixels[own], self._squares[own]
        alone = 0
        for row in range(0, len(pixels), 256):  # in blocks, to bound memory
            some = slice(row, row + 256)
            distance = squares[some, None] + squares - 2 * pixels[some] @ pixels.T
            distance[np.arange(len(distance)), np.arange(row, row + len(distance))] = np.inf
            alone += int((distance.min(1) >= pixels.shape[1] * ALIKE**2).sum())
        return Share(alone, len(pixels))

    def _of(self, style: str | None) -> slice:
        """Where the images of a style lie, or all."""
        if style is None:
            return slice(0, len(self.records))
        return self._places.get(style, slice(0, 0))


def _places(styles: Sequence[str]) -> dict[str, slice]:
    """Where each of the sorted styles begins and ends."""
    counts = Counter(styles)
    ends = accumulate(counts.values())
    return {name: slice(end - counts[name], end) for name, end in zip(counts, ends, strict=True)}


def thumbnail(image: Image.Image) -> Thumbnail:
    """On white, at 32 × 32, flattened to [3072], 0…1."""
    small = flat(image).resize((SIDE, SIDE), Image.Resampling.BOX)
    values: Thumbnail = np.asarray(small, dtype=np.float32).ravel() / np.float32(255)
    return values


def _article(record: Emoji) -> str:
    return f"{'an' if record.name[0].lower() in 'aeiou' else 'a'} {record.caption}"


def _two_keywords(record: Emoji) -> str:
    return f"{', '.join(record.keywords[:2])}, {record.style} style"


def _chinese(record: Emoji) -> str:
    return f"{record.chinese}，{record.chinese_style}"


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
class Line:
    """One figure: which images, asked for how."""

    style: str
    split: Split
    prompt: str
    retrieval: Share
    error: float  # median root mean squared difference to the true image, 0…1
    twins: Share | None = None  # of what is held out by style: see `Gallery.twins_find`

    def __str__(self) -> str:
        return f"{self.style}, {self.split}, {self.prompt}: {self.retrieval}"


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """The images behind one line."""

    style: str
    split: Split
    phrasing: str
    records: list[Emoji]


class RetrievalEvaluation:
    """Every style, split and phrasing, ``count`` images of each. Raises ``DataError``."""

    def __init__(self, sampler: Sampler, folders: Sequence[Path], count: int) -> None:
        self.sampler = sampler
        records = read_records(folders)
        self.gallery = Gallery(records)
        self.styles = sorted({record.style for record in records})
        self.plan = list(prompt_batches(records, self.styles, count))
        self.drawn: dict[tuple[str, Split], list[tuple[Emoji, Picture]]] = {}  # by name

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        return sum(len(batch.records) for batch in self.plan) * self.sampler.steps

    def counts(self) -> list[int]:
        """How many of `by_name` there will be of each style."""
        return [
            len(batch.records)
            for batch in self.plan
            if (batch.split, batch.phrasing) == ("train", NAME)
        ]

    def by_name(self) -> dict[str, list[tuple[Emoji, Picture]]]:
        """What `run` has drawn of each style by name, as in training."""
        return {style: pairs for (style, split), pairs in self.drawn.items() if split == "train"}

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[Line]:
        """Draws and scores, one line after the other."""
        for batch in self.plan:
            hits, errors = 0, []
            prompts = [PHRASINGS[batch.phrasing](record) for record in batch.records]
            style = None if batch.phrasing == NO_STYLE else batch.style
            drawn = list(zip(batch.records, self.sampler.draw(prompts, on_step), strict=True))
            for record, picture in drawn:
                pixels = thumbnail(to_image(picture))
                hits += self.gallery.finds(pixels, record, style)
                errors.append(float(np.sqrt(np.square(pixels - self.gallery.true(record)).mean())))
            if batch.phrasing == NAME:
                self.drawn[batch.style, batch.split] = drawn
            share = Share(hits, len(drawn))
            error = float(np.median(errors))
            twins = self._twins(batch) if batch.split == "held-out style" else None
            yield Line(batch.style, batch.split, batch.phrasing, share, error, twins)

    def _twins(self, batch: PromptBatch) -> Share | None:
        found = [self.gallery.twins_find(record) for record in batch.records]
        known = [each for each in found if each is not None]
        return Share(sum(known), len(known)) if known else None


def prompt_batches(
    records: Sequence[Emoji], styles: Sequence[str], count: int
) -> Iterator[PromptBatch]:
    """What is measured of each of the styles: up to ``count`` images of each split by name, and a
    quarter as many of those in training in every other phrasing."""
    for style in styles:
        for split in SPLITS:
            rows = [r for r in select(records, split) if r.style == style]
            if rows:
                yield PromptBatch(style, split, NAME, choose_records(rows, count))
        rows = [r for r in select(records, "train") if r.style == style and len(r.keywords) > 1]
        few = choose_records(rows, count // 4)
        for phrasing in PHRASINGS:
            if phrasing != NAME:
                yield PromptBatch(style, "train", phrasing, few)


def retrieval_table(lines: Sequence[Line]) -> str:
    """Markdown. What is held out has beside it what its real images in other styles find."""
    asked = "nearest real is the one asked for"
    head = ("style", "pictures", "prompt", "n", asked, "median error", "by a real twin")
    rows = [
        (
            *(line.style, line.split, line.prompt, str(line.retrieval.of)),
            *(str(line.retrieval), f"{line.error:.3f}", str(line.twins) if line.twins else ""),
        )
        for line in lines
    ]
    return table(head, "lllrlrl", rows)
