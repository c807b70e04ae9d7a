"""One token out of many, by a number that was drawn beforehand.

Promises that a row's token depends on that row's numbers alone, to the bit: after the softmax all
is done in whole numbers, whose sums do not depend on the order in which a library adds them up.
"""

from __future__ import annotations

import torch
from torch import Tensor

ONE = 2.0**40
"""The probability 1 as a whole number. Of a few thousand tokens the sum stays exact in float64."""


def choose(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniform: Tensor
) -> Tensor:
    """A token for each row: logits fp32 [B, V], the rest [B] → [B].

    First the temperature, then of the likeliest tokens the ``top_k`` first ones (all V of them, to
    cut nothing), and of all the fewest whose sum reaches ``top_p`` (1 cuts nothing); then the one
    at which the sum of what is left passes ``uniform``, float64 in 0…1. At least one is left.
    """
    probabilities = (logits / temperature[:, None]).softmax(-1)
    weights, tokens = (
        (probabilities.double() * ONE).long().sort(dim=-1, descending=True, stable=True)
    )
    reached = weights.cumsum(-1)
    enough = (top_p.double() * reached[:, -1]).long()
    rank = torch.arange(logits.shape[1], device=logits.device)
    kept = (rank < top_k[:, None]) & (reached - weights < enough[:, None])
    kept |= rank == 0
    reached = (weights * kept).cumsum(-1)
    target = (uniform * reached[:, -1]).long()
    place = (reached <= target[:, None]).sum(-1, keepdim=True)
    return tokens.gather(1, place).squeeze(1)
