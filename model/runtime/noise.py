"""What chance decides for a row: its noise and its choices, from its seed alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from model.request import SEEDS, ImageRequest

T = TypeVar("T")


def noise_of(request: ImageRequest, shape: tuple[int, ...]) -> Tensor:
    """N(0, I), fp32 on the CPU, from a generator that nothing else draws from.

    For a frame of a walk, a point of the circle cos φ · a + sin φ · b through the noise of its seed
    (a, at phase 0) and of the next (b, at phase ¼). As a and b are independent, every point is as
    normal as these, and the loop ends where it began.
    """
    own = _drawn(request.seed, shape)
    if request.operation != "walk" or request.phase == 0:
        return own
    angle = 2 * math.pi * request.phase
    return math.cos(angle) * own + math.sin(angle) * _drawn((request.seed + 1) % SEEDS, shape)


def one_of(choices: Sequence[T], generator: torch.Generator) -> T:
    """Each with equal chances."""
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def choice_of(choices: Sequence[T], seed: int) -> T:
    """`one_of` them: always the same for a seed, from a generator that nothing else draws from."""
    return one_of(choices, torch.Generator().manual_seed(seed % SEEDS))


def _drawn(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
