"""Ways to spoil pictures, and to mend them again without a model.

Knows nothing about models; how a repair is asked for is part of each task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import gaussian
from skimage.restoration import denoise_nl_means, inpaint_biharmonic

from model.evaluation.quality import Floats, on_white, picture_of
from model.protocol import Operation, Picture, Source
from model.report import to_image

Baseline = Callable[[Source], Floats]

SAMPLES = 8
"""Of how many the mean is taken."""


@dataclass(frozen=True, slots=True)
class Task:
    """One way to spoil pictures, how to ask for their repair, and what needs no model."""

    name: str
    operation: Operation
    spoil: Callable[[Picture, np.random.Generator], Source]
    baselines: Mapping[str, Baseline]
    samples: int = SAMPLES
    steps: int | None = None  # of the sampler; None is what is asked for


def _premultiplied(picture: Picture) -> Floats:
    """[H, W, C], 0…1."""
    shape = (picture.height, picture.width, picture.channels)
    values: Floats = np.frombuffer(picture.pixels, np.uint8).reshape(shape) / 255.0
    if picture.channels == 4:
        values = np.concatenate((values[..., :3] * values[..., 3:], values[..., 3:]), axis=2)
    return values


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
