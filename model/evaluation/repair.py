"""How well a checkpoint repairs pictures that it has never seen, beside methods without a model.

A real picture is spoiled, repaired, and compared with itself on white. One sample from a model of
pictures has about twice the squared error of their mean (its own spread comes on top), so both
are measured: one sample, and the mean of several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import gaussian
from skimage.restoration import denoise_nl_means, inpaint_biharmonic

from model.data.emoji import Emoji, read_pictures, read_records, select
from model.data.pictures import DataError
from model.evaluation.gallery import Gallery, thumbnail
from model.evaluation.quality import Floats, Quality, native, on_white, picture_of, quality
from model.evaluation.sampling import Sampling, choose
from model.evaluation.share import Share
from model.protocol import ImageModel, Operation, Picture, RowRequest, Source
from model.report import to_image
from model.sampling import generate

Baseline = Callable[[Source], Floats]

SAMPLES = 8
"""Of how many the mean is taken."""

RESTYLE_STRENGTHS = (0.7, 0.85)


@dataclass(frozen=True, slots=True)
class Task:
    """One way to spoil pictures, how to ask for their repair, and what needs no model."""

    name: str
    operation: Operation
    spoil: Callable[[Picture, np.random.Generator], Source]
    baselines: Mapping[str, Baseline]
    samples: int = SAMPLES
    steps: int | None = None  # of the sampler; None is what is asked for


@dataclass(frozen=True, slots=True)
class RepairLine:
    """One task's figures. ``baseline`` is the best by PSNR of those in ``others``."""

    task: str
    of: int
    one: Quality
    mean: Quality
    baseline: str
    others: dict[str, Quality]

    @property
    def better(self) -> bool:
        """Whether the mean of the samples beats every baseline in both figures."""
        best = self.others.values()
        return all(self.mean.psnr > b.psnr and self.mean.ssim > b.ssim for b in best)


@dataclass(frozen=True, slots=True)
class RestyleLine:
    """How often a picture made in another style is nearest to the real one in that style."""

    start: str
    prompt: str
    twin: Share
    chance: float


@dataclass(frozen=True, slots=True)
class Example:
    """For people to look at."""

    task: str
    given: Picture
    made: Picture
    real: Picture


class RepairEvaluation:
    """Every task on the held-out pictures, ``count`` of them, asked for by name and style.

    Raises ``DataError`` where a set is broken, or nothing of it is held out.
    """

    def __init__(
        self, model: ImageModel[Any], folders: Sequence[Path], sampling: Sampling, count: int
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.examples: list[Example] = []
        self._all = read_records(folders)
        held_out = [*select(self._all, "held-out style"), *select(self._all, "held-out tone")]
        if not held_out:
            raise DataError("none of these pictures is held out of training")
        self._records = choose(held_out, count)
        self._pictures = [native(model.spec, image) for image in read_pictures(self._records)]
        unseen = select(self._all, "held-out style")
        self._twins = list(self._pairs(unseen))[:count]

    @property
    def steps(self) -> int:
        """Solver steps that `run` takes, for a progress bar."""
        each = sum((task.steps or self.sampling.steps) * task.samples for task in TASKS)
        return each * len(self._records) + len(self._restyles()) * (
            self.sampling.steps * len(self._twins)
        )

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[RepairLine]:
        """Spoils, repairs and scores, one task after the other."""
        for task in TASKS:
            yield self._line(task, on_step)

    def restyle(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[RestyleLine]:
        """Turns pictures of symbols into a style in which the model has never seen them."""
        if not self._twins:
            return
        gallery = Gallery(self._all)
        style = self._twins[0][1].style
        chance = 1 / sum(record.style == style for record in self._all)
        starts = [
            native(self.model.spec, image)
            for image in read_pictures([old for old, _ in self._twins])
        ]
        for strength, named in self._restyles():
            requests = [
                RowRequest(
                    new.caption if named else f"{style} style",
                    self.sampling.seed,
                    self.sampling.steps,
                    self.sampling.guidance,
                    operation="vary" if strength else "generate",
                    source=Source(picture, strength=strength) if strength else None,
                )
                for (_, new), picture in zip(self._twins, starts, strict=True)
            ]
            made = list(generate(self.model, requests, on_step))
            hits = sum(
                gallery.finds(thumbnail(to_image(picture)), new, style)
                for picture, (_, new) in zip(made, self._twins, strict=True)
            )
            if strength == RESTYLE_STRENGTHS[0] and named:
                reals = read_pictures([new for _, new in self._twins])
                self.examples += [
                    Example(f"restyle to {style}", start, one, native(self.model.spec, real))
                    for start, one, real in zip(starts, made, reals, strict=True)
                ]
            yield RestyleLine(
                f"the other style's, strength {strength:g}" if strength else "noise",
                "name, style" if named else "style",
                Share(hits, len(made)),
                chance,
            )

    def _restyles(self) -> list[tuple[float, bool]]:
        """Strength (0 is without a picture) and whether the symbol is named."""
        pictures = [(strength, named) for strength in RESTYLE_STRENGTHS for named in (True, False)]
        return [(0.0, True), *pictures] if self._twins else []

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

    def _line(self, task: Task, on_step: Callable[[int], None]) -> RepairLine:
        spoiled = [
            task.spoil(picture, np.random.default_rng([self.sampling.seed, index]))
            for index, picture in enumerate(self._pictures)
        ]
        requests = [
            RowRequest(
                record.caption,
                self.sampling.seed + sample,
                task.steps or self.sampling.steps,
                self.sampling.guidance,
                operation=task.operation,
                source=source,
            )
            for record, source in zip(self._records, spoiled, strict=True)
            for sample in range(task.samples)
        ]
        made = list(generate(self.model, requests, on_step))
        groups = [made[at : at + task.samples] for at in range(0, len(made), task.samples)]
        reals = [on_white(picture) for picture in self._pictures]
        self.examples += [
            Example(task.name, source.picture, group[0], real)
            for source, group, real in zip(spoiled, groups, self._pictures, strict=True)
        ]
        others = {
            name: quality([baseline(source) for source in spoiled], reals)
            for name, baseline in task.baselines.items()
        }
        return RepairLine(
            task=task.name,
            of=len(reals),
            one=quality([on_white(group[0]) for group in groups], reals),
            mean=quality([np.mean([on_white(one) for one in group], 0) for group in groups], reals),
            baseline=max(others, key=lambda name: others[name].psnr),
            others=others,
        )


def _premultiplied(picture: Picture) -> Floats:
    """[H, W, C], 0…1."""
    shape = (picture.height, picture.width, picture.channels)
    values: Floats = np.frombuffer(picture.pixels, np.uint8).reshape(shape) / 255.0
    if picture.channels == 4:
        values = np.concatenate((values[..., :3] * values[..., 3:], values[..., 3:]), axis=2)
    return values


# Spoiling, and mending without a model.


def _reduce(factor: int) -> Callable[[Picture, np.random.Generator], Source]:
    def spoil(picture: Picture, draw: np.random.Generator) -> Source:
        values = _premultiplied(picture)
        side = picture.width // factor
        blocks = values.reshape(side, factor, side, factor, picture.channels)
        return Source(picture_of(blocks.mean((1, 3))))

    return spoil


def _enlarge(factor: int) -> Baseline:
    def mend(source: Source) -> Floats:
        side = source.picture.width * factor
        image = to_image(source.picture).resize((side, side), Image.Resampling.LANCZOS)
        return on_white(_from_image(image))

    return mend


def _from_image(image: Image.Image) -> Picture:
    return Picture(image.width, image.height, len(image.getbands()), image.tobytes())


def _grey(picture: Picture, draw: np.random.Generator) -> Source:
    image = to_image(picture)
    grey = image.convert("RGB").convert("L")
    bands = [grey, grey, grey, *image.split()[3:]]
    return Source(_from_image(Image.merge(image.mode, bands)))


def _hole(picture: Picture, draw: np.random.Generator) -> Source:
    """A square of half the side, not far from the middle; what is in it is gone."""
    size = picture.width
    mask = np.zeros((size, size), np.uint8)
    top, left = draw.integers(size // 8, size // 2 - size // 8, 2, endpoint=True)
    mask[top : top + size // 2, left : left + size // 2] = 255
    values = _premultiplied(picture) * (mask[..., None] == 0)
    return Source(picture_of(values), mask=mask.tobytes())


def _mask(source: Source) -> NDArray[np.bool_]:
    assert source.mask is not None
    size = source.picture.width
    return np.frombuffer(source.mask, np.uint8).reshape(size, size) != 0


def _fill_mean(source: Source) -> Floats:
    values, hole = on_white(source.picture), _mask(source)
    values[hole] = values[~hole].mean(0)
    return values


def _fill_smooth(source: Source) -> Floats:
    values: Floats = inpaint_biharmonic(on_white(source.picture), _mask(source), channel_axis=2)
    return values.clip(0, 1)


def _noise(deviation: float, told: bool = True) -> Callable[[Picture, np.random.Generator], Source]:
    def spoil(picture: Picture, draw: np.random.Generator) -> Source:
        shape = (picture.height, picture.width, picture.channels)
        pixels = np.frombuffer(picture.pixels, np.uint8).reshape(shape).astype(np.float64)
        pixels[..., :3] += draw.normal(0, 255 * deviation, (*shape[:2], 3))
        noisy = pixels.clip(0, 255).round().astype(np.uint8)
        return Source(replace(picture, pixels=noisy.tobytes()), noise=deviation if told else None)

    return spoil


def _ground(source: Source, values: Floats) -> Floats:
    """What is transparent is known to be white."""
    if source.picture.channels == 4:
        pixels = np.frombuffer(source.picture.pixels, np.uint8)
        values[pixels.reshape(*values.shape[:2], 4)[..., 3] == 0] = 1
    return values


def _blur(sigma: float) -> Baseline:
    return lambda source: _ground(
        source, gaussian(on_white(source.picture), sigma, mode="nearest", channel_axis=2)
    )


def _non_local_means(deviation: float) -> Baseline:
    return lambda source: _ground(
        source,
        denoise_nl_means(
            on_white(source.picture),
            patch_size=3,
            patch_distance=9,
            h=0.8 * deviation,
            sigma=deviation,
            fast_mode=False,
            channel_axis=2,
        ),
    )


def _mends(deviation: float) -> dict[str, Baseline]:
    blurs = {f"Gaussian, {sigma:g} px": _blur(sigma) for sigma in (0.5, 0.75, 1.0, 1.5)}
    return blurs | {"non-local means": _non_local_means(deviation), "as given": _as_given}


def _as_given(source: Source) -> Floats:
    return on_white(source.picture)


TASKS = (
    Task("upscale ×2", "upscale", _reduce(2), {"Lanczos": _enlarge(2)}),
    Task("upscale ×4", "upscale", _reduce(4), {"Lanczos": _enlarge(4)}),
    Task("colorize", "colorize", _grey, {"grey": _as_given}),
    Task("inpaint", "inpaint", _hole, {"mean": _fill_mean, "biharmonic": _fill_smooth}),
    Task("denoise 0.1", "denoise", _noise(0.1), _mends(0.1), samples=1, steps=1),
    Task("denoise 0.2", "denoise", _noise(0.2), _mends(0.2), samples=1, steps=1),
    Task("denoise 0.1, estimated", "denoise", _noise(0.1, False), _mends(0.1), samples=1, steps=1),
)
