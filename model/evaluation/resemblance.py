"""Do drawn pictures resemble real ones, one by one and as a set? Beside each figure: real pictures.

Some symbols are asked for; other symbols' pictures are what these are compared with as a set,
so that real pictures of the symbols that were asked for have a figure, too, and a model that draws
these perfectly has the same. What is drawn without a prompt is compared with all styles.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.data.emoji import Emoji, read_pictures, select
from model.evaluation.diversity import among, similarity
from model.evaluation.encoder import Encoder
from model.evaluation.gallery import Gallery
from model.evaluation.quality import Floats, native, on_white, quality
from model.evaluation.sampling import Sampling, choose
from model.evaluation.spread import NEIGHBOURS, kernel_distance, spread
from model.protocol import ImageModel, Picture, RowRequest
from model.sampling import generate

PROMPTS, SEEDS = 16, 4
"""Of how many prompts and how many seeds of each it is said how much seeds change."""

NO_PROMPT = "without a prompt"


@dataclass(frozen=True, slots=True)
class Closeness:
    """To other pictures, one by one; means."""

    mse: float  # of values 0…1, on white
    ssim: float


@dataclass(frozen=True, slots=True)
class Resemblance:
    """The figures of one set of pictures."""

    to_own: Closeness | None  # to the real picture that was asked for; None without a prompt
    density: float
    coverage: float
    kid: float
    ms_ssim: float  # between pictures of the set: less is more varied
    seeds: float | None = None  # the same between seeds of one prompt


@dataclass(frozen=True, slots=True)
class SetLine:
    """A set of drawn pictures, and what real pictures have in their place."""

    pictures: str  # a style, or `NO_PROMPT`
    of: int
    drawn: Resemblance
    real: Resemblance  # ``to_own`` is to the most similar real picture of another symbol

    def __str__(self) -> str:
        drawn, real = self.drawn.coverage, self.real.coverage
        return f"{self.pictures}: coverage {drawn:.3f} (real {real:.3f})"


class SetEvaluation:
    """Figures of what `EmojiEvaluation` has drawn, and of some more that this draws."""

    def __init__(
        self, model: ImageModel[Any], gallery: Gallery, encoder: Encoder, sampling: Sampling
    ) -> None:
        self._model = model
        self._gallery = gallery
        self._encoder = encoder
        self._sampling = sampling
        self._train = select(gallery.records, "train")

    def more(self, drawn: Mapping[str, int]) -> int:
        """Pictures that `run` will draw where each style has so many, for a progress bar."""
        seeds = sum(min(PROMPTS, count) * (SEEDS - 1) for count in drawn.values())
        return seeds + _unprompted(drawn)

    def run(
        self,
        drawn: Mapping[str, Sequence[tuple[Emoji, Picture]]],
        on_step: Callable[[int], None] = lambda steps: None,
    ) -> Iterator[SetLine]:
        """``drawn`` holds each style's pictures, of one symbol each. Leaves out sets too small."""
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
        counts = {style: len(pairs) for style, pairs in drawn.items()}
        few = min(_unprompted(counts), len(others))
        if few > NEIGHBOURS:
            draw = random.Random(0)
            real = self._natives(draw.sample(asked, few))
            known = self._natives(draw.sample(others, few))
            pictures = self._draw([("", seed) for seed in range(few)], on_step)
            yield SetLine(NO_PROMPT, few, self._as_set(pictures, known), self._as_set(real, known))

    def _prompted(
        self,
        style: str,
        pairs: Sequence[tuple[Emoji, Picture]],
        others: Sequence[Emoji],
        on_step: Callable[[int], None],
    ) -> SetLine:
        records, pictures = [record for record, _ in pairs], [picture for _, picture in pairs]
        real, known = self._natives(records), self._natives(others)
        alike = self._natives([self._gallery.neighbour(record) for record in records])
        return SetLine(
            style,
            len(pairs),
            self._as_set(pictures, known, own=real, seeds=self._seeds(pairs, on_step)),
            self._as_set(real, known, own=alike),
        )

    def _as_set(
        self,
        pictures: Sequence[Picture],
        known: Sequence[Picture],
        own: Sequence[Picture] | None = None,
        seeds: float | None = None,
    ) -> Resemblance:
        features, others = self._encoder.features(pictures), self._encoder.features(known)
        values = [on_white(picture) for picture in pictures]
        near = spread(others, features)
        return Resemblance(
            to_own=_closeness(values, [on_white(each) for each in own]) if own else None,
            density=near.density,
            coverage=near.coverage,
            kid=kernel_distance(others, features),
            ms_ssim=among(values),
            seeds=seeds,
        )

    def _seeds(
        self, pairs: Sequence[tuple[Emoji, Picture]], on_step: Callable[[int], None]
    ) -> float:
        """MS-SSIM between what following seeds draw of one prompt."""
        some = pairs[:PROMPTS]
        first = self._sampling.seed
        asked = [(r.caption, first + k) for r, _ in some for k in range(1, SEEDS)]
        more = self._draw(asked, on_step)
        compared = []
        for place, (_, picture) in enumerate(some):
            row = [picture, *more[place * (SEEDS - 1) : (place + 1) * (SEEDS - 1)]]
            values = [on_white(each) for each in row]
            compared += [(values[k], values[k - 1]) for k in range(SEEDS)]
        return similarity(compared)

    def _draw(
        self, asked: Sequence[tuple[str, int]], on_step: Callable[[int], None]
    ) -> list[Picture]:
        """Of prompts and seeds."""
        how = self._sampling
        requests = [RowRequest(prompt, seed, how.steps, how.guidance) for prompt, seed in asked]
        return list(generate(self._model, requests, on_step))

    def _natives(self, records: Sequence[Emoji]) -> list[Picture]:
        return [native(self._model.spec, image) for image in read_pictures(records)]

    def _others(self, style: str, asked: Sequence[Emoji]) -> list[Emoji]:
        """Pictures of symbols that were not asked for, one of each."""
        bases = {record.base for record in asked}
        rows = [r for r in self._train if r.style == style and r.base not in bases]
        return choose(rows, len(rows))


def _unprompted(drawn: Mapping[str, int]) -> int:
    """How many are drawn without a prompt: as many as half of one style's."""
    return min(drawn.values(), default=0) // 2


def _closeness(pictures: Sequence[Floats], others: Sequence[Floats]) -> Closeness:
    errors = [np.square(one - other).mean() for one, other in zip(pictures, others, strict=True)]
    return Closeness(float(np.mean(errors)), quality(pictures, others).ssim)
