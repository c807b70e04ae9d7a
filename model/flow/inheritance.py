"""A flow begins with the weights of another one, of smaller images or other words.

Patch layers are resized where images have another size and the grid stays: a network for patches of
8 at 64 pixels draws the same images, enlarged, with patches of 16 at 128. A new tokenizer's
embeddings are put together from those of the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.flow.config import FlowConfig
from model.layers import to_patches
from model.tokenizer import PromptTokenizer

EMBEDDING = "reader.encoder.embedding.weight"


def resized(
    weights: Mapping[str, Tensor], before: FlowConfig, after: FlowConfig
) -> dict[str, Tensor]:
    """Weights of a network ``before`` with patch layers that fit ``after``.

    They stay as they are where the grids or the channels differ, and those that the network does
    not have.
    """
    channels, old, new = before.channels, before.patch_size, after.patch_size
    if before.grid != after.grid or after.channels != channels:
        return dict(weights)

    def scaled(rows: Tensor, mode: str) -> Tensor:
        """[N, C·old²] → [N, C·new²], as images of one patch are scaled."""
        images = rows[:, _places(channels, old).argsort()].unflatten(1, (-1, old, old))
        smooth = mode == "bilinear"
        images = F.interpolate(images, size=(new, new), mode=mode, antialias=smooth)
        return images.flatten(1)[:, _places(channels, new)]

    whole = new % old == 0 or old % new == 0
    seen = "area" if whole else "bilinear"
    drawn = "area" if whole and new < old else "bilinear"
    fitting = {
        "patch_embed.weight": lambda w: scaled(w, seen) * (old / new) ** 2,  # the same sums
        "patch_out.weight": lambda w: scaled(w.T, drawn).T.contiguous(),
        "patch_out.bias": lambda w: scaled(w[None], drawn)[0],
    }
    return {
        name: fitting[name](weight) if name in fitting and new != old else weight
        for name, weight in weights.items()
    }


def enlargement(before: Mapping[str, Any], after: FlowConfig) -> float:
    """``after.enlarged`` with which `resized` weights draw what they did ``before``.

    That is a network's configuration, with no more keys than it once had.
    """
    enlarged: float = before.get("enlarged", 0)
    size, patch = before["image_size"], before["patch_size"]
    if size // patch != after.grid or size == after.image_size:
        return enlarged
    return (enlarged or 1) * after.image_size / size


def _places(channels: int, patch: int) -> Tensor:
    """Where each value of a patch's vector lies in [C, patch, patch], flattened: [C·patch²]."""
    numbers = torch.arange(channels * patch**2).view(1, channels, patch, patch)
    return to_patches(numbers, patch).flatten()


def respelled(
    weights: Mapping[str, Tensor], before: PromptTokenizer, after: PromptTokenizer
) -> dict[str, Tensor]:
    """Weights with an embedding for each token of ``after``.

    It is the old one of the same text, or the mean of the old ones that spell it.
    """
    texts = after.texts()
    if texts == before.texts() or EMBEDDING not in weights:
        return dict(weights)
    old = weights[EMBEDDING]
    rows = [old[before.spell(text)].mean(0) for text in texts]
    return {**weights, EMBEDDING: torch.stack(rows)}
