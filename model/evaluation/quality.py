"""How near a picture is to another, and real pictures as a model would draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

from model.data.pictures import PictureFormat
from model.pixels import to_picture
from model.protocol import ModelSpec, Picture
from model.report import to_image

Floats = NDArray[np.float64]

LEAST_ERROR = 1e-6
"""Mean squared error below which a picture counts as equal: 60 dB."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over pictures."""

    psnr: float  # dB
    ssim: float


@dataclass(frozen=True, slots=True)
class Example:
    """For people to look at."""

    task: str
    given: Picture
    made: Picture
    real: Picture


def on_white(picture: Picture) -> Floats:
    """[height, width, 3], 0…1."""
    values: Floats = np.asarray(to_image(picture, "white"), np.float64) / 255
    return values


def native(spec: ModelSpec, image: Image.Image) -> Picture:
    """A real picture as the model would draw it."""
    form = PictureFormat(spec.size, 4 if spec.channels == 4 else 3)
    return picture_of(form.pixels(image).transpose(1, 2, 0) / 255.0)


def picture_of(premultiplied: Floats) -> Picture:
    """[H, W, C], 0…1 → a picture."""
    values = torch.from_numpy(premultiplied.transpose(2, 0, 1) * 2 - 1)
    return to_picture(values.float())


def quality(made: Sequence[Floats], reals: Sequence[Floats]) -> Quality:
    """PSNR, and SSIM with the windows of Wang et al. 2004."""
    psnr = [
        -10 * np.log10(max(LEAST_ERROR, np.square(one - real).mean()))
        for one, real in zip(made, reals, strict=True)
    ]
    ssim = [
        structural_similarity(
            one,
            real,
            channel_axis=2,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for one, real in zip(made, reals, strict=True)
    ]
    return Quality(float(np.mean(psnr)), float(np.mean(ssim)))
