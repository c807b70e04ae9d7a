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
    share, rest = around(kept, mean.mul_(1 - kept))
    return share.mul_(image).add_(rest)


def moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the 3 x 3 pixels around each of image [..., H, W], within it."""
    mean, mean_square = around(image, image.square())
    return mean, mean_square.sub_(mean.square()).clamp_(min=0)


def around(*images: Tensor) -> list[Tensor]:
    """The means over the 3 x 3 pixels around each of images [..., H, W] of one size, within them.

    By sums along rows and columns: PyTorch's pooling takes seven times as long on a CPU.
    """
    counts = _counts(images[0], -2)[:, None] * _counts(images[0], -1)
    return [_sums(image).div_(counts) for image in images]


def _counts(image: Tensor, dimension: int) -> Tensor:
    """How many pixels along a dimension are at most one away, [its size]."""
    counts = torch.full((image.shape[dimension],), 3.0, device=image.device)
    counts[0] -= 1
    counts[-1] -= 1
    return counts


def _sums(image: Tensor) -> Tensor:
    rows = image.clone()
    rows[..., 1:] += image[..., :-1]
    rows[..., :-1] += image[..., 1:]
    sums = rows.clone()
    sums[..., 1:, :] += rows[..., :-1, :]
    sums[..., :-1, :] += rows[..., 1:, :]
    return sums
