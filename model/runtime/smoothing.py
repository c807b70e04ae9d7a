"""Grain that a network leaves on even surfaces, smoothed away without its edges."""

from __future__ import annotations

import torch
from torch import Tensor


def without_grain(image: Tensor, grain: float) -> Tensor:
    """image [..., H, W], smoothed where it varies no more than by ``grain``, a variance.

    The guided filter of an image by itself, over 3 x 3 pixels (He et al. 2010, equations 5, 6, 8):
    where the variance around a pixel is far above ``grain``, nothing changes; far below, the pixel
    becomes the mean around it. With a ``grain`` of 0 the image is returned as it is.
    """
    if not grain:
        return image
    mean, variance = moments(image)
    kept = variance / (variance + grain)
    return around(kept) * image + around(mean * (1 - kept))


def moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the 3 x 3 pixels around each of image [..., H, W], within it."""
    mean = around(image)
    return mean, (around(image.square()) - mean.square()).clamp(min=0)


def around(image: Tensor) -> Tensor:
    """The mean over the 3 x 3 pixels around each of image [..., H, W], within it.

    By sums along rows and columns: PyTorch's pooling takes seven times as long on a CPU.
    """
    return _sums(image) / _sums(torch.ones(image.shape[-2:], device=image.device))


def _sums(image: Tensor) -> Tensor:
    rows = image.clone()
    rows[..., 1:] += image[..., :-1]
    rows[..., :-1] += image[..., 1:]
    sums = rows.clone()
    sums[..., 1:, :] += rows[..., :-1, :]
    sums[..., :-1, :] += rows[..., 1:, :]
    return sums
