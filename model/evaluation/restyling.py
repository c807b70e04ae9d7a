"""Does a picture keep what it shows when it is made again in a style in which it was never seen?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.emoji import Emoji, read_pictures, read_records, select
from model.evaluation.gallery import Gallery, thumbnail
from model.evaluation.quality import Example, native
from model.evaluation.sampling import Sampling, choose
from model.evaluation.share import Share
from model.protocol import ImageModel, RowRequest, Source
from model.report import to_image
from model.sampling import generate

STRENGTHS = (0.7, 0.85)

WAYS = ((0.0, True), *((strength, named) for strength in STRENGTHS for named in (True, False)))
"""Strength (0 is without a picture), and whether the symbol is named."""


@dataclass(frozen=True, slots=True)
class RestyleLine:
    """How often a picture made in another style is nearest to the real one in that style."""

    start: str
    prompt: str
    twin: Share
    chance: float


class RestyleEvaluation:
    """Symbols whose pictures in one style are held out, from their pictures in the other.

    ``count`` of them at most; none where the data has no such pairs. Raises ``DataError`` where a
    set is broken.
    """

    def __init__(
        self, model: ImageModel[Any], folders: Sequence[Path], sampling: Sampling, count: int
    ) -> None:
        self.examples: list[Example] = []
        self._model = model
        self._sampling = sampling
        self._all = read_records(folders)
        self._twins = list(self._pairs(select(self._all, "held-out style")))[:count]

    @property
    def steps(self) -> int:
        """Solver steps that `run` takes, for a progress bar."""
        return len(WAYS) * self._sampling.steps * len(self._twins)

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[RestyleLine]:
        """Makes and scores, one way after the other."""
        if not self._twins:
            return
        gallery = Gallery(self._all)
        style = self._twins[0][1].style
        chance = 1 / sum(record.style == style for record in self._all)
        starts = [
            native(self._model.spec, image)
            for image in read_pictures([old for old, _ in self._twins])
        ]
        for strength, named in WAYS:
            requests = [
                RowRequest(
                    new.caption if named else f"{style} style",
                    self._sampling.seed,
                    self._sampling.steps,
                    self._sampling.guidance,
                    operation="vary" if strength else "generate",
                    source=Source(picture, strength=strength) if strength else None,
                )
                for (_, new), picture in zip(self._twins, starts, strict=True)
            ]
            made = list(generate(self._model, requests, on_step))
            hits = sum(
                gallery.finds(thumbnail(to_image(picture)), new, style)
                for picture, (_, new) in zip(made, self._twins, strict=True)
            )
            if strength == STRENGTHS[0] and named:
                reals = read_pictures([new for _, new in self._twins])
                self.examples += [
                    Example(f"restyle to {style}", start, one, native(self._model.spec, real))
                    for start, one, real in zip(starts, made, reals, strict=True)
                ]
            yield RestyleLine(
                f"the other style's, strength {strength:g}" if strength else "noise",
                "name, style" if named else "style",
                Share(hits, len(made)),
                chance,
            )

    def _pairs(self, unseen: Sequence[Emoji]) -> Iterator[tuple[Emoji, Emoji]]:
        """The seen picture and its unseen twin, one tone a symbol."""
        seen = {
            record.codepoints: record
            for record in select(self._all, "train")
            if unseen and record.style != unseen[0].style
        }
        for record in choose(unseen, len(unseen)):
            if record.codepoints in seen:
                yield seen[record.codepoints], record
