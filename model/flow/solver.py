"""One image's way from noise: Euler's or Heun's method on dz/dt = (x̂(z, t) − z) / (1 − t).

Heun's is the second-order method of Karras et al. 2022 (algorithm 1), with an Euler step at the
end, where the velocity has no second value. Advances by one network evaluation at a time, so that
rows with different orders and step counts share passes.

Times are spaced by a power, as noise levels are in the same paper (equation 5): a network that
predicts the clean image is uncertain where there is nearly nothing but noise, so its first steps
had better be small where they are few.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Trajectory:
    """Where one image is: ``latent`` [C, H, W] (fp32) at ``time`` in 0…1.

    Its ``steps`` lead from the ``time`` where it begins to 1. After k of n it has gone (k / n) to
    the power of ``spacing`` of that way: 1 spaces times evenly, more makes the first steps smaller.
    ``order`` is 1 for Euler's method and 2 for Heun's, whose step is two calls of `advance`: the
    first predicts where it ends, the second corrects that with the velocity found there.
    """

    def __init__(
        self, latent: Tensor, steps: int, order: int, time: float = 0.0, spacing: float = 1.0
    ) -> None:
        self.latent = latent
        self.time = time
        self._begin = time
        self.step = 0
        self.steps = steps
        self._order = order
        self._spacing = spacing
        self._corrector: tuple[Tensor, Tensor] | None = None  # Heun's start and first velocity

    @property
    def done(self) -> bool:
        return self.step == self.steps

    @property
    def completes(self) -> bool:
        """Whether the next call of `advance` ends a step."""
        return self._corrector is not None or self._order == 1 or self.ends

    @property
    def ends(self) -> bool:
        """Whether the next call of `advance` is the last."""
        return self.step + 1 == self.steps

    def advance(self, predicted: Tensor) -> None:
        """Moves on, given the clean image [C, H, W] predicted at ``latent`` and ``time``."""
        begin, end = self._at(self.step), self._at(self.step + 1)
        completes = self.completes
        velocity = (predicted - self.latent) / (1 - self.time)
        if self._corrector is not None:
            start, first = self._corrector
            self._corrector = None
            self.latent = torch.lerp(first, velocity, 0.5).mul_(end - begin).add_(start)
        else:
            start = self.latent
            self.latent = velocity.mul(end - begin).add_(start)
            if not completes:
                self._corrector = (start, velocity)
                self.time = end
                return
        self.step += 1
        self.time = end

    def _at(self, step: int) -> float:
        """The time after ``step`` steps."""
        return self._begin + (1 - self._begin) * (step / self.steps) ** self._spacing
