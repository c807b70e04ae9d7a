"""Ways to corrupt images, how to ask a model to restore them, and how to do so without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import gaussian
from skimage.restoration import denoise_nl_means, inpaint_biharmonic

from model.evaluation.metrics import Floats, on_white
from model.evaluation.sampling import from_premultiplied
from model.request import Operation, Picture, Source
from model.training.sheet import to_image

Corruption = Callable[[Picture, np.random.Generator], Source]
Baseline = Callable[[Source], Floats]

SAMPLES = 8
"""Of how many the mean is taken."""


@dataclass(frozen=True, slots=True)
class Task:
    """One way to corrupt images, how to ask for their restoration, and what needs no model."""

    name: str
    operation: Operation
    corrupt: Corruption
    baselines: Mapping[str, Baseline]
    samples: int = SAMPLES
    parameters: Mapping[str, float] = field(default_factory=dict)  # beside those of the sampler


def _pixels(picture: Picture) -> NDArray[np.uint8]:
    """[H, W, C]."""
    shape = (picture.height, picture.width, picture.channels)
    return np.frombuffer(picture.pixels, np.uint8).reshape(shape)


def _premultiplied(picture: Picture) -> Floats:
    """[H, W, C], 0…1."""
    values: Floats = _pixels(picture) / 255.0
    if picture.channels == 4:
        values = np.concatenate((values[..., :3] * values[..., 3:], values[..., 3:]), axis=2)
    return values


def _from_image(image: Image.Image) -> Picture:
    return Picture(image.width, image.height, len(image.getbands()), image.tobytes())


def _reduce(factor: int) -> Corruption:
    def corrupt(picture: Picture, draw: np.random.Generator) -> Source:
        side = picture.width // factor
        blocks = _premultiplied(picture).reshape(side, factor, side, factor, picture.channels)
        return Source(from_premultiplied(blocks.mean((1, 3))))

    return corrupt


def _enlarge(factor: int) -> Baseline:
    def restore(source: Source) -> Floats:
        side = source.picture.width * factor
        image = to_image(source.picture).resize((side, side), Image.Resampling.LANCZOS)
        return on_white(_from_image(image))

    return restore


def _grey(picture: Picture, draw: np.random.Generator) -> Source:
    image = to_image(picture)
    grey = image.convert("RGB").convert("L")
    bands = [grey, grey, grey, *image.split()[3:]]
    return Source(_from_image(Image.merge(image.mode, bands)))


def _hole(picture: Picture, draw: np.random.Generator) -> Source:
    """A square of half the side, not far from the middle, is cut out."""
    size = picture.width
    mask = np.zeros((size, size), np.uint8)
    top, left = draw.integers(size // 8, size // 2 - size // 8, 2, endpoint=True)
    mask[top : top + size // 2, left : left + size // 2] = 255
    values = _premultiplied(picture) * (mask[..., None] == 0)
    return Source(from_premultiplied(values), mask=mask.tobytes())


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


def _noise(deviation: float) -> Corruption:
    def corrupt(picture: Picture, draw: np.random.Generator) -> Source:
        pixels = _pixels(picture).astype(np.float64)
        pixels[..., :3] += draw.normal(0, 255 * deviation, (*pixels.shape[:2], 3))
        noisy = pixels.clip(0, 255).round().astype(np.uint8)
        return Source(replace(picture, pixels=noisy.tobytes()))

    return corrupt


def _keep_ground(source: Source, values: Floats) -> Floats:
    """What is transparent is known to be white."""
    if source.picture.channels == 4:
        values[_pixels(source.picture)[..., 3] == 0] = 1
    return values


def _blur(sigma: float) -> Baseline:
    return lambda source: _keep_ground(
        source, gaussian(on_white(source.picture), sigma, mode="nearest", channel_axis=2)
    )


def _non_local_means(deviation: float) -> Baseline:
    return lambda source: _keep_ground(
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


def _as_given(source: Source) -> Floats:
    return on_white(source.picture)


def _denoise(deviation: float, *, estimated: bool = False) -> Task:
    blurs = {f"Gaussian, {sigma:g} px": _blur(sigma) for sigma in (0.5, 0.75, 1.0, 1.5)}
    more = {"non-local means": _non_local_means(deviation), "as given": _as_given}
    return Task(
        f"denoise {deviation:g}{', estimated' if estimated else ''}",
        "denoise",
        _noise(deviation),
        blurs | more,
        samples=1,
        parameters={"steps": 1} if estimated else {"steps": 1, "noise": deviation},
    )


TASKS = (
    Task("upscale ×2", "upscale", _reduce(2), {"Lanczos": _enlarge(2)}),
    Task("upscale ×4", "upscale", _reduce(4), {"Lanczos": _enlarge(4)}),
    Task("colorize", "colorize", _grey, {"grey": _as_given}),
    Task("inpaint", "inpaint", _hole, {"mean": _fill_mean, "biharmonic": _fill_smooth}),
    _denoise(0.1),
    _denoise(0.2),
    _denoise(0.1, estimated=True),
)
