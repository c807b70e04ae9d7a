"""The flow family: patches, objective, solver."""

import math

import pytest
import torch

from model.flow.config import FlowConfig
from model.flow.objective import FlowObjective
from model.flow.solver import Trajectory
from model.layers import from_patches, to_patches


def test_patches_go_back_to_the_same_picture() -> None:
    picture = torch.randn(2, 4, 12, 12)
    patches = to_patches(picture, 3)
    assert patches.shape == (2, 16, 36)
    torch.testing.assert_close(patches[0, 1].view(4, 3, 3), picture[0, :, :3, 3:6])
    torch.testing.assert_close(from_patches(patches, 3, 12), picture)


def test_a_size_that_does_not_divide_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="image_size 64 must be a multiple of patch_size 7"):
        FlowConfig(image_size=64, patch_size=7)


def test_the_loss_is_the_velocitys_squared_error() -> None:
    """The x-prediction is weighted so that it equals an L2 loss on v = x − ε."""
    torch.manual_seed(0)
    objective = FlowObjective()
    picture, noise, predicted = torch.randn(3, 4, 3, 8, 8)
    time = torch.tensor([0.0, 0.2, 0.5, 0.9])
    noisy = objective.noisy(picture, noise, time)
    left = (1 - time)[:, None, None, None]
    velocity = (predicted - noisy) / left
    expected = (velocity - (picture - noise)).square().mean()
    torch.testing.assert_close(objective.loss(predicted, picture, noisy, time), expected)


def test_near_the_picture_the_weight_stays_bounded() -> None:
    objective = FlowObjective(floor=0.05)
    one = torch.ones(1, 1, 1, 1)
    loss = objective.loss(one, 0 * one, 0 * one, torch.ones(1))
    assert loss.item() == pytest.approx(1 / 0.05**2)


@pytest.mark.parametrize("order", [1, 2])
def test_a_perfect_prediction_arrives_at_the_picture(order: int) -> None:
    picture = torch.randn(3, 4, 4)
    way = Trajectory(torch.randn(3, 4, 4), 5, order)
    while not way.done:
        way.advance(picture)
    torch.testing.assert_close(way.latent, picture)
    assert (way.step, way.time) == (5, 1.0)


@pytest.mark.parametrize(("spacing", "middle"), [(1.0, 0.6), (2.0, 0.4)])
def test_spacing_makes_the_first_steps_smaller_from_wherever_it_begins(
    spacing: float, middle: float
) -> None:
    """Half the steps of the way from 0.2 to 1."""
    way = Trajectory(torch.zeros(1, 2, 2), 4, 1, time=0.2, spacing=spacing)
    way.advance(torch.ones(1, 2, 2))
    way.advance(torch.ones(1, 2, 2))
    assert way.time == pytest.approx(middle)


def _error(order: int, steps: int) -> float:
    """Distance from the exact end when the prediction is a known function of place and time.

    x̂(z, t) = z + (1 − t)·cos(3t) makes dz/dt = cos(3t), so z(1) = z(0) + sin(3) / 3.
    """
    start = torch.zeros(1, 1, 1, dtype=torch.float64)
    way = Trajectory(start, steps, order)
    while not way.done:
        way.advance(way.latent + (1 - way.time) * math.cos(3 * way.time))
    return abs(way.latent.item() - math.sin(3) / 3)


def test_heun_is_of_second_order_and_euler_of_first() -> None:
    """Without the corrector, Heun would be an Euler that costs twice as much."""
    assert _error(1, 20) / _error(1, 40) == pytest.approx(2, abs=0.3)
    assert _error(2, 40) < _error(1, 40) / 5


def test_heun_evaluates_twice_a_step_but_for_the_last() -> None:
    way = Trajectory(torch.zeros(1, 2, 2), 4, 2)
    evaluations = 0
    while not way.done:
        way.advance(torch.ones(1, 2, 2))
        evaluations += 1
    assert evaluations == 2 * 3 + 1
