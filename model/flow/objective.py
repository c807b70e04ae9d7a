"""The flow objective: a straight line from noise to image, and an L2 loss on its direction.

z_t = t·x + (1 − t)·ε with ε ~ N(0, I): noise at t = 0, the image at t = 1. The network predicts x;
the loss is taken on the velocity v = x − ε = (x − z_t) / (1 − t) that follows from it ("Back to
basics: let denoising generative models denoise", Li and He 2025, table 1, row x-prediction with
v-loss).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class FlowObjective:
    """Times are t = sigmoid(N(mean, deviation)); 1 − t is kept above ``floor`` in the loss.

    A share of the times is ``even`` over 0…1: the last steps, and edits of images with little
    noise, lie where the normal ones hardly ever come (one in fifty is above 0.71).
    """

    time_mean: float = -0.8
    time_deviation: float = 0.8
    even: float = 0.1
    floor: float = 0.05

    @classmethod
    def for_size(cls, size: int) -> Self:
        """More pixels are trained with more noise, and over a wider range of it.

        What averages over blocks of pixels show of an image is as noisy at twice the size only
        where t / (1 − t) is half as large (Esser et al. 2024, section 5.3.2). Half of that shift is
        made (in its logarithm): the finest detail, seen pixel by pixel, has not moved.
        """
        if size <= 64:
            return cls()
        return cls(round(cls().time_mean - 0.5 * math.log(size / 64), 2), 1.0)

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """[count] training times, on the generator's device."""
        normal = torch.randn(count, generator=generator, device=generator.device)
        times = torch.sigmoid(normal * self.time_deviation + self.time_mean)
        even = torch.rand(2, count, generator=generator, device=generator.device)
        return torch.where(even[0] < self.even, even[1], times)

    def noisy(self, image: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """z_t at ``time`` [B], of images and noise [B, C, H, W]."""
        t = time[:, None, None, None]
        return t * image + (1 - t) * noise

    def loss(self, predicted: Tensor, image: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Mean of (v̂ − v)²: a scalar."""
        left = (1 - time).clamp(min=self.floor)[:, None, None, None]
        velocity = (image - noisy) / left
        predicted_velocity = (predicted.float() - noisy) / left
        return (predicted_velocity - velocity).square().mean()
