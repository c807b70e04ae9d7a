"""The adversarial objective: the right player pays, and gradients are estimated rightly.

If these fail, training runs on and learns nothing, or never settles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.gan.objective import GanObjective

SHAPE = (3, 2, 4, 4)


def test_a_pair_costs_less_the_further_the_better_one_is_ahead() -> None:
    objective = GanObjective()
    even, ahead, behind = (
        objective.pairs(torch.tensor([score]), torch.zeros(1)).item() for score in (0.0, 3.0, -3.0)
    )
    assert even == pytest.approx(0.6931, abs=1e-4)
    assert ahead < even < behind


def test_only_the_difference_counts() -> None:
    """Relativistic: a discriminator gains nothing by calling everything real."""
    objective = GanObjective()
    better, worse = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        objective.pairs(better + 7, worse + 7), objective.pairs(better, worse), atol=1e-5, rtol=0
    )


def toy(picture: Tensor) -> Tensor:
    """A discriminator whose gradient differs from place to place: Σ sin(aₖ xₖ)."""
    factors = torch.linspace(-2, 2, picture[0].numel(), dtype=picture.dtype)
    return (picture.flatten(1) * factors).sin().sum(1)


def by_autograd(picture: Tensor) -> float:
    """E‖∇D‖², exactly."""
    picture = picture.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(toy(picture).sum(), picture)
    return gradient.square().flatten(1).sum(1).mean().item()


def estimated(objective: GanObjective, picture: Tensor, draws: int) -> float:
    generator = torch.Generator().manual_seed(1)
    many = picture.repeat(draws, 1, 1, 1)
    noise = torch.randn(many.shape, generator=generator, dtype=many.dtype)
    return objective.slope(toy(many), toy(objective.disturbed(many, noise))).item()


def test_the_penalty_is_the_squared_gradient_that_autograd_finds() -> None:
    """On 60,000 draws: each has a relative deviation of √2, so their mean one of 0.6 %."""
    picture = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double()
    exact = by_autograd(picture)
    assert exact > 1
    assert estimated(GanObjective(sigma=0.01), picture, 20_000) == pytest.approx(exact, rel=0.03)


def test_its_gradient_is_that_of_the_exact_penalty() -> None:
    """What reaches the discriminator's weights: here a single one that scales it."""
    picture = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double()
    weight = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    many = picture.repeat(20_000, 1, 1, 1)
    noise = torch.randn(many.shape, generator=torch.Generator().manual_seed(1)).double()
    objective = GanObjective(sigma=0.01)
    penalty = objective.slope(weight * toy(many), weight * toy(objective.disturbed(many, noise)))
    (found,) = torch.autograd.grad(penalty, weight)
    assert found.item() == pytest.approx(2 * 1.5 * by_autograd(picture), rel=0.03)


def test_with_a_large_sigma_it_is_another_one() -> None:
    """The inverse: the tolerance above is narrow enough to tell."""
    picture = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).double()
    wide = estimated(GanObjective(sigma=1.0), picture, 20_000)
    assert wide != pytest.approx(by_autograd(picture), rel=0.2)


def test_the_distance_leaves_out_pictures_without_a_prompt() -> None:
    """An image of anything must not be pulled to the mean of everything."""
    objective = GanObjective()
    real = torch.zeros(2, 1, 2, 2)
    made = torch.stack((torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 9.0)))
    tokens = torch.tensor([[5, 0], [0, 0]])
    assert objective.distance(made, real, tokens).item() == 4.0
    assert objective.distance(made, real, torch.zeros(2, 2)).item() == 0.0


ANGLE = torch.arange(8) * (2 * math.pi / 8)
RING = torch.stack((ANGLE.cos(), ANGLE.sin()), 1)  # eight points around the origin


def perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, outputs)
    )


def adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.0, 0.99), fused=True)


def against_a_discriminator(made: nn.Module) -> None:
    objective, discriminator = GanObjective(), perceptron(2, 1)
    learns, judges = adam(made), adam(discriminator)
    for _ in range(1000):
        real, noise = RING[torch.randint(8, (64,))], torch.randn(64, 2)
        fake = made(torch.randn(64, 4)).detach()
        above, below = discriminator(real)[:, 0], discriminator(fake)[:, 0]
        slopes = [
            objective.slope(score, discriminator(objective.disturbed(points, noise))[:, 0])
            for score, points in ((above, real), (below, fake))
        ]
        judges.zero_grad()
        (objective.pairs(above, below) + objective.gamma / 2 * sum(slopes)).backward()
        judges.step()
        learns.zero_grad()
        objective.pairs(discriminator(made(torch.randn(64, 4)))[:, 0], above.detach()).backward()
        learns.step()


def by_distance(made: nn.Module) -> None:
    learns = adam(made)
    for _ in range(300):
        learns.zero_grad()
        (made(torch.randn(64, 4)) - RING[torch.randint(8, (64,))]).square().mean().backward()
        learns.step()


def learned(how: Callable[[nn.Module], None]) -> tuple[int, float]:
    """The least of the eight points' shares of 512, and the mean distance to the nearest."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = perceptron(4, 2)
        how(made)
        with torch.no_grad():
            distance = torch.cdist(made(torch.randn(512, 4)), RING)
    return int(distance.argmin(1).bincount(minlength=8).min()), distance.min(1).values.mean().item()


def test_no_mode_is_dropped() -> None:
    """Every point of a ring is drawn about as often as it should be (64 of 512)."""
    least, distance = learned(against_a_discriminator)
    assert least >= 25
    assert distance < 0.4


def test_a_squared_error_learns_the_mean_instead() -> None:
    """The inverse, and why there are discriminators: latents that belong to no one point."""
    _, distance = learned(by_distance)
    assert distance > 0.8  # the origin has 1
