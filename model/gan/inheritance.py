"""A flow checkpoint's weights become the beginning of a gan's.

Asked for noise's picture at time 0, a flow transformer predicts the mean of all pictures that the
prompt may mean: blurred, but the right one. A generator that begins there has to learn only what
the critic can teach, detail (adversarial post-training, Lin et al. 2025). The critic begins with
what flow knows of prompts. Knows names and shapes of both networks; runs neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from model.flow.network import time_features

SAME = ("reader.", "modulation.", "norm.", "patch_out.")
"""Parts of the generator that flow has under the same name."""

PROMPT = ("encoder.", "layout_in.", "layout_out.")
"""Parts of flow's prompt reader that the critic has."""


def inherited(weights: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Weights of a flow or a gan checkpoint under the names of `model.gan.recipe.Players`.

    Of a flow with other than ``depth`` blocks, these are chosen evenly, the first and last among
    them. What neither has is left out.
    """
    if not any(name.startswith("time_embed.") for name in weights):
        return {f"generator.{name}": value for name, value in weights.items()}
    generator = {name: value for name, value in weights.items() if name.startswith(SAME)}
    generator |= _blocks(weights, depth)
    generator["beginning"] = _beginning_of_time(weights)
    generator["latent_embed.bias"] = weights["patch_embed.bias"]
    channels = len(weights["refine.weight"])  # the other half of what it sees is noise
    generator["smooth.weight"] = weights["refine.weight"][:, :channels]
    generator["smooth.bias"] = weights["refine.bias"]
    reader = {
        name.removeprefix("reader."): value
        for name, value in weights.items()
        if name.startswith("reader.")
    }
    return {f"generator.{name}": value for name, value in generator.items()} | {
        f"critic.prompts.{name}": value for name, value in reader.items() if name.startswith(PROMPT)
    }


def _blocks(weights: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """``depth`` blocks, numbered anew."""
    numbers = {int(name.split(".")[1]) for name in weights if name.startswith("blocks.")}
    last = len(numbers) - 1
    chosen = [round(place * last / max(1, depth - 1)) for place in range(depth)]
    return {
        f"blocks.{place}.{name}": value
        for place, number in enumerate(chosen)
        for name, value in _part(weights, f"blocks.{number}.")
    }


def _part(weights: Mapping[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in weights.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), value


def _beginning_of_time(weights: Mapping[str, Tensor]) -> Tensor:
    """What flow's network for times makes of time 0: [W]."""
    into, out = "time_embed.0", "time_embed.2"
    features = time_features(torch.zeros(1), weights[f"{into}.weight"].shape[1])
    hidden = F.silu(F.linear(features, weights[f"{into}.weight"], weights[f"{into}.bias"]))
    return F.linear(hidden, weights[f"{out}.weight"], weights[f"{out}.bias"])[0]
