"""The adversarial objective: real and drawn images are compared in pairs, gradients kept small.

R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!", equations 2 to 4). With D high for
real images x and x̂ = G(z, c) drawn for the same prompt c:

    discriminator:  E softplus(D(x̂, c) − D(x, c)) + ½·gamma · (E‖∇D(x, c)‖² + E‖∇D(x̂, c)‖²)
    generator:      E softplus(D(x, c) − D(x̂, c))

The two zero-centred penalties, R1 on real and R2 on drawn images, are what makes it converge.
Second derivatives are slow and cannot be compiled, so ‖∇D‖² is estimated (approximated R1, Lin et
al. 2025, "Diffusion adversarial post-training", equation 4): for ε ~ N(0, I) and a small σ,

    E_ε (D(x + σε) − D(x))² / σ² = ‖∇D(x)‖² + O(σ²).

There is about one real image for each prompt, so a discriminator could ignore prompts. It is shown
real images y of other prompts as well, which are worse than x for c ("matching-aware", Reed et al.
2016; here as a pair, as everything else):

    discriminator:  E softplus(D(y, c) − D(x, c))
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class GanObjective:
    """Weights of the parts; ``anchor`` is the one that R3GAN does not have.

    The generator also pays ``anchor`` times the mean squared error to the real image, where
    there is a prompt (as pix2pix does, Isola et al. 2017). Alone, it would learn the mean of all
    images that a prompt may mean; beside the discriminator, it keeps a prompt's shapes and colours
    together while the discriminator asks for detail.
    """

    gamma: float = 0.5
    sigma: float = 0.05  # of values in −1…1
    penalised: float = 0.5  # share of each batch on which the gradients are estimated
    mismatch: float = 0.5
    anchor: float = 3.0

    def pairs(self, better: Tensor, worse: Tensor) -> Tensor:
        """softplus(worse − better): what a discriminator pays for [B] pairs of scores. A scalar."""
        return F.softplus(worse - better).mean()

    def disturbed(self, image: Tensor, noise: Tensor) -> Tensor:
        """x + σε, to be scored for `slope`; both [B, C, H, W]."""
        return image + self.sigma * noise

    def slope(self, score: Tensor, disturbed: Tensor) -> Tensor:
        """‖∇D‖² estimated from the scores [B] of x and of x + σε: a scalar."""
        return ((disturbed - score) / self.sigma).square().mean()

    def distance(self, drawn: Tensor, real: Tensor, tokens: Tensor) -> Tensor:
        """Mean squared error where there is a prompt: images [B, C, H, W], tokens [B, T]."""
        prompted = (tokens != 0).any(1).float()
        error = (drawn.float() - real).square().mean((1, 2, 3))
        return (prompted * error).sum() / torch.clamp(prompted.sum(), min=1.0)
