"""The adversarial objective: the right player pays, and gradients are estimated rightly.

If these fail, training runs on and learns nothing, or never settles.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

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
    """Relativistic: a critic gains nothing by calling everything real."""
    objective = GanObjective()
    better, worse = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        objective.pairs(better + 7, worse + 7), objective.pairs(better, worse), atol=1e-5, rtol=0
    )


def toy(picture: Tensor) -> Tensor:
    """A critic whose gradient differs from place to place: Σ sin(aₖ xₖ)."""
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
    """What the critic's weights hear of: here a single weight that scales the critic."""
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
    """A picture of anything must not be pulled to the mean of everything."""
    objective = GanObjective()
    real = torch.zeros(2, 1, 2, 2)
    made = torch.stack((torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 9.0)))
    tokens = torch.tensor([[5, 0], [0, 0]])
    assert objective.distance(made, real, tokens).item() == 4.0
    assert objective.distance(made, real, torch.zeros(2, 2)).item() == 0.0
