"""One picture's way from noise to picture: Euler or Heun on dz/dt = (x̂(z, t) − z) / (1 − t).

Heun is the second-order method of Karras et al. 2022 (algorithm 1), with an Euler step at the end,
where the velocity has no second value. Advances by one network evaluation at a time, so that
pictures with different solvers and step counts share passes. Knows nothing about networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.protocol import Solver


class Trajectory:
    """Where one picture is: ``latent`` [C, H, W] (fp32) at ``time`` in 0…1.

    Its ``steps`` are even and lead from the time where it begins to 1.
    """

    def __init__(self, latent: Tensor, steps: int, solver: Solver, time: float = 0.0) -> None:
        self.latent = latent
        self.time = time
        self._begin = time
        self.step = 0
        self.steps = steps
        self._solver = solver
        self._corrector: tuple[Tensor, Tensor] | None = None  # Heun's start and first velocity

    @property
    def done(self) -> bool:
        return self.step == self.steps

    def advance(self, predicted: Tensor) -> None:
        """Moves on, given the clean picture [C, H, W] predicted at ``latent`` and ``time``."""
        begin, end = self._at(self.step), self._at(self.step + 1)
        velocity = (predicted - self.latent) / (1 - self.time)
        if self._corrector is not None:
            start, first = self._corrector
            self._corrector = None
            self.latent = torch.lerp(first, velocity, 0.5).mul_(end - begin).add_(start)
        else:
            start = self.latent
            self.latent = velocity.mul(end - begin).add_(start)
            if self._solver == "heun" and self.step + 1 < self.steps:
                self._corrector = (start, velocity)
                self.time = end
                return
        self.step += 1
        self.time = end

    def _at(self, step: int) -> float:
        """The time after ``step`` steps."""
        return self._begin + (1 - self._begin) * (step / self.steps)
