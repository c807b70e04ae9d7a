"""How far a set of drawn pictures spreads over a set of real ones. Knows features, no pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.image.kid import poly_mmd

from model.evaluation.encoder import Features

NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Spread:
    """Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models"."""

    density: float  # how many real neighbourhoods a drawn picture is in; may exceed 1
    coverage: float  # share of real pictures with a drawn one in their neighbourhood


def spread(real: Features, drawn: Features) -> Spread:
    """A real picture's neighbourhood reaches to its fifth nearest real one.

    Of [N, D] and [M, D]. Raises ``ValueError`` where there are too few real pictures.
    """
    if len(real) <= NEIGHBOURS:
        raise ValueError(f"{len(real)} real pictures have no {NEIGHBOURS} neighbours each")
    among = _distances(real, real)  # the nearest to each is itself
    reach = np.partition(among, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    inside = _distances(real, drawn) < reach[:, None]
    return Spread(
        density=float(inside.sum() / (NEIGHBOURS * len(drawn))),
        coverage=float(inside.any(1).mean()),
    )


def kernel_distance(real: Features, drawn: Features) -> float:
    """KID (Bińkowski et al. 2018): the unbiased squared MMD of a cubic kernel.

    Of two [N, D]; 0 on average where both are samples of one distribution, so it may be negative.
    """
    if len(real) != len(drawn):
        raise ValueError(f"{len(real)} real and {len(drawn)} drawn pictures; both must be as many")
    return float(poly_mmd(torch.from_numpy(real), torch.from_numpy(drawn)))


def _distances(one: Features, other: Features) -> Features:
    """Euclidean, [N, M]."""
    squares = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T
    distances: Features = np.sqrt(np.maximum(squares, 0))
    return distances
