"""The flow objective: a straight line from noise to picture, and an L2 loss on its direction.

z_t = t·x + (1 − t)·ε with ε ~ N(0, I): noise at t = 0, the picture at t = 1. The network predicts
x; the loss is taken on the velocity v = x − ε = (x − z_t) / (1 − t) that follows from it
("Back to basics: let denoising generative models denoise", Li and He 2025, table 1, row
x-prediction with v-loss). Knows nothing about networks, prompts or optimizers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class FlowObjective:
    """Times are t = sigmoid(N(mean, deviation)); 1 − t is kept above ``floor`` in the loss.

    A share of the times is ``even`` over 0…1: the last steps, and repairs of pictures with little
    noise, lie where the normal ones hardly ever come (one in fifty is above 0.71).
    """

    time_mean: float = -0.8
    time_deviation: float = 0.8
    even: float = 0.1
    floor: float = 0.05

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """[count] training times."""
        normal = torch.randn(count, generator=generator)
        times = torch.sigmoid(normal * self.time_deviation + self.time_mean)
        even = torch.rand(2, count, generator=generator)
        return torch.where(even[0] < self.even, even[1], times)

    def noisy(self, picture: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The point at ``time`` [B] on the way from noise to picture, both [B, C, H, W]."""
        t = time[:, None, None, None]
        return t * picture + (1 - t) * noise

    def loss(self, predicted: Tensor, picture: Tensor, time: Tensor) -> Tensor:
        """Mean of (v̂ − v)² = ((x̂ − x) / (1 − t))²: a scalar."""
        error = (predicted.float() - picture) / (1 - time).clamp(min=self.floor)[
            :, None, None, None
        ]
        return error.square().mean()
