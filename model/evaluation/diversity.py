"""How different pictures are from one another: MS-SSIM between them (Odena et al. 2017)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from model.evaluation.quality import Floats

WEIGHTS = (0.0448, 0.2856, 0.3001)
"""Of the finest scales, of the five in Wang et al. 2003."""

SMALLEST = 16
"""Pixels along a side at the coarsest scale: less does not hold the window of 11."""

ROUNDS = 2  # in each of which every picture is in two pairs
TOGETHER = 64


def similarity(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    """Mean MS-SSIM of pairs [H, W, 3], 0…1: 1 where both are equal.

    At three scales where pictures have 64 pixels or more along a side, at two from 32.
    """
    side = len(pairs[0][0])
    scales = [weight for level, weight in enumerate(WEIGHTS) if side >> level >= SMALLEST]
    betas = tuple(weight / sum(scales) for weight in scales)
    total = 0.0
    for begin in range(0, len(pairs), TOGETHER):
        some = np.array(pairs[begin : begin + TOGETHER], np.float32).transpose(1, 0, 4, 2, 3)
        one, other = torch.from_numpy(np.ascontiguousarray(some))
        values = multiscale_structural_similarity_index_measure(
            one, other, data_range=1.0, betas=betas, normalize="relu", reduction="none"
        )
        total += float(values.double().sum())
    return total / len(pairs)


def among(pictures: Sequence[Floats]) -> float:
    """Mean MS-SSIM of pairs of a set, the same pairs of places every time. Less is more varied."""
    draw = random.Random(0)
    places = list(range(len(pictures)))
    pairs = []
    for _ in range(ROUNDS):
        draw.shuffle(places)
        following = places[1:] + places[:1]
        pairs += [(pictures[a], pictures[b]) for a, b in zip(places, following, strict=True)]
    return similarity(pairs)
