"""Do drawn images resemble real ones, one by one and as a set? Beside each figure: real images.

Some symbols are asked for; other symbols' images are what these are compared with as a set, so
that real images of the symbols that were asked for have a figure, too, and a model that draws these
perfectly has the same. What is drawn without a prompt is compared with all styles.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.data.emoji import Emoji, select
from model.evaluation.metrics import (
    NEIGHBOURS,
    Encoder,
    among,
    kernel_distance,
    mse,
    on_white,
    quality,
    similarity,
    spread,
)
from model.evaluation.retrieval import Gallery
from model.evaluation.sampling import Sampler, choose_records, natives
from model.request import Picture

PROMPTS, SEEDS = 16, 4
"""So many prompts with so many seeds each show how much a seed changes."""

NO_PROMPT = "without a prompt"

Drawn = Mapping[str, Sequence[tuple[Emoji, Picture]]]
"""Each style's images, of one symbol each."""


@dataclass(frozen=True, slots=True)
class Closeness:
    """To other images, one by one; means."""

    mse: float  # of values 0…1, on white
    ssim: float


@dataclass(frozen=True, slots=True)
class Resemblance:
    """The figures of one set of images."""

    to_own: Closeness | None  # to the real image that was asked for; None without a prompt
    density: float
    coverage: float
    kid: float
    ms_ssim: float  # between images of the set: less is more varied
    seeds: float | None = None  # the same between seeds of one prompt


@dataclass(frozen=True, slots=True)
class SetLine:
    """A set of drawn images, and what real images have in their place."""

    pictures: str  # a style, or `NO_PROMPT`
    of: int
    drawn: Resemblance
    real: Resemblance  # ``to_own`` is to the most similar real image of another symbol

    def __str__(self) -> str:
        drawn, real = self.drawn.coverage, self.real.coverage
        return f"{self.pictures}: coverage {drawn:.3f} (real {real:.3f})"


class SetEvaluation:
    """Figures of what `RetrievalEvaluation` has drawn, and of some more that this draws."""

    def __init__(self, sampler: Sampler, gallery: Gallery, encoder: Encoder) -> None:
        self._sampler = sampler
        self._gallery = gallery
        self._encoder = encoder
        self._train = select(gallery.records, "train")

    def steps(self, counts: Sequence[int]) -> int:
        """That `run` takes where the styles have so many images, for a progress bar."""
        seeds = sum(min(PROMPTS, count) * (SEEDS - 1) for count in counts)
        return (seeds + _unprompted(counts)) * self._sampler.steps

    def run(
        self, drawn: Drawn, on_step: Callable[[int], None] = lambda steps: None
    ) -> Iterator[SetLine]:
        """One line after the other. Leaves out sets that are too small."""
        asked: list[Emoji] = []
        others: list[Emoji] = []
        for style, pairs in drawn.items():
            rest = self._others(style, [record for record, _ in pairs])
            count = min(len(pairs), len(rest))
            if count <= NEIGHBOURS:
                continue
            some, rest = list(pairs[:count]), rest[:count]
            asked += [record for record, _ in some]
            others += rest
            yield self._prompted(style, some, rest, on_step)
        few = min(_unprompted([*map(len, drawn.values())]), len(others))
        if few > NEIGHBOURS:
            draw = random.Random(0)
            real = self._real(draw.sample(asked, few))
            known = self._real(draw.sample(others, few))
            pictures = self._sampler.draw([""] * few, on_step, seeds=range(few))
            yield SetLine(
                NO_PROMPT,
                few,
                resemblance(self._encoder, pictures, known),
                resemblance(self._encoder, real, known),
            )

    def _prompted(
        self,
        style: str,
        pairs: Sequence[tuple[Emoji, Picture]],
        others: Sequence[Emoji],
        on_step: Callable[[int], None],
    ) -> SetLine:
        records, pictures = [record for record, _ in pairs], [picture for _, picture in pairs]
        real, known = self._real(records), self._real(others)
        alike = self._real([self._gallery.neighbour(record) for record in records])
        seed = self._sampler.seed
        asked = [(record.caption, picture, seed) for record, picture in pairs]
        seeds = similarity_of_seeds(self._sampler, asked, on_step)
        return SetLine(
            style,
            len(pairs),
            resemblance(self._encoder, pictures, known, real, seeds),
            resemblance(self._encoder, real, known, alike),
        )

    def _real(self, records: Sequence[Emoji]) -> list[Picture]:
        """Real images as large as drawn ones."""
        return natives(self._sampler.spec, records, self._sampler.side)

    def _others(self, style: str, asked: Sequence[Emoji]) -> list[Emoji]:
        """Records of symbols that were not asked for, one of each."""
        bases = {record.base for record in asked}
        rows = [r for r in self._train if r.style == style and r.base not in bases]
        return choose_records(rows, len(rows))


def resemblance(
    encoder: Encoder,
    pictures: Sequence[Picture],
    known: Sequence[Picture],
    own: Sequence[Picture] | None = None,
    seeds: float | None = None,
) -> Resemblance:
    """The figures of ``pictures`` as a set, beside as many ``known`` ones.

    ``own`` has what each of them should resemble.
    """
    features, others = encoder.features(pictures), encoder.features(known)
    values = [on_white(picture) for picture in pictures]
    near = spread(others, features)
    to_own = None
    if own:
        reals = [on_white(picture) for picture in own]
        to_own = Closeness(float(np.mean(mse(values, reals))), quality(values, reals).ssim)
    return Resemblance(
        to_own=to_own,
        density=near.density,
        coverage=near.coverage,
        kid=kernel_distance(others, features),
        ms_ssim=among(values),
        seeds=seeds,
    )


def similarity_of_seeds(
    sampler: Sampler,
    drawn: Sequence[tuple[str, Picture, int]],
    on_step: Callable[[int], None],
) -> float:
    """MS-SSIM between what following seeds draw of one prompt.

    ``drawn`` are prompts with what was drawn of them, and with which seed.
    """
    some = drawn[:PROMPTS]
    others = range(1, SEEDS)
    prompts = [prompt for prompt, _, _ in some for _ in others]
    seeds = [seed + k for _, _, seed in some for k in others]
    more = iter(sampler.draw(prompts, on_step, seeds))
    compared = []
    for _, picture, _ in some:
        values = [on_white(drawn) for drawn in (picture, *(next(more) for _ in others))]
        compared += [(values[k], values[k - 1]) for k in range(SEEDS)]
    return similarity(compared)


def _unprompted(counts: Sequence[int]) -> int:
    """How many are drawn without a prompt: as many as half of one style's."""
    return min(counts, default=0) // 2
