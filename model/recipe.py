"""What a family brings to the training loop: its networks, its losses, its batches, its files.

The loop (`model.train`) knows nothing about families; a recipe knows nothing about processes,
folders of runs, averages or resuming.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from model.checkpoint import Checkpoint, load_model
from model.data.pictures import PictureSet
from model.protocol import RowRequest
from model.report import contact_sheet
from model.sampling import generate
from model.tokenizer import PADDING, PromptTokenizer


class TrainingError(Exception):
    """A run cannot start or go on. ``str()`` says why and what would help."""


@dataclass(slots=True)
class Phase:
    """One loss, and the optimizers of the weights that it moves.

    Most families have one phase; a GAN has two, its critic's and its generator's, of which each
    gets its own batch at every step.
    """

    name: str  # in the log; the first phase's is "loss"
    loss: nn.Module  # called with a batch, gives a scalar; compiled and distributed as a whole
    optimizers: list[torch.optim.Optimizer]


class Recipe(Protocol):
    """How one family is trained."""

    @property
    def network(self) -> nn.Module:
        """All weights that are trained, and kept to resume."""

    @property
    def averaged(self) -> nn.Module:
        """The part of ``network`` whose moving average ships; mostly all of it."""

    @property
    def phases(self) -> Sequence[Phase]:
        """In the order in which they take their turns within a step. Always the same objects."""

    @property
    def fixed(self) -> Mapping[str, Any]:
        """Plain data that a run which goes on must have in common with its beginning."""

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """What a phase's loss is called with, for ``count`` pictures. Random by these two only."""

    def save(self, folder: Path, average: Mapping[str, Tensor]) -> None:
        """Writes the checkpoint, with the averaged weights."""

    def sheet(self, folder: Path, device: str) -> Image.Image:
        """Shows what the checkpoint in ``folder`` can do: always the same task."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with beside its configuration."""

    tokenizer: PromptTokenizer
    description: str = "pictures from prompts"
    licence: str = "not stated"


def take_over(network: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Begins with another network's weights; what has another shape stays new. Tells which."""
    own = network.state_dict()
    fits = {key: value for key, value in weights.items() if _fits(own, key, value)}
    network.load_state_dict(fits, strict=False)
    fresh = [key for key in own if key not in fits]
    return (
        f"took over {len(fits)} of {len(own)} tensors; starting anew: {', '.join(fresh) or 'none'}"
    )


def _fits(own: Mapping[str, Tensor], name: str, value: Tensor) -> bool:
    return name in own and own[name].shape == value.shape


def padded_tokens(tokenizer: PromptTokenizer, prompts: Sequence[str], length: int) -> Tensor:
    """[B, length]; a prompt that is longer is cut."""
    rows = [tokenizer.tokens(prompt)[:length] for prompt in prompts]
    return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows])


def sample_rows(data: PictureSet, count: int) -> list[int]:
    """Rows to look at: the same for every run on this data, spread over its groups."""
    groups = random.Random(0).sample(data.groups, min(count, len(data.groups)))
    return [group[0] for group in groups]


def drawn_sheet(data: PictureSet, folder: Path, device: str) -> Image.Image:
    """Sixteen captions as the checkpoint draws them by default."""
    captions = [data.captions[row] for row in sample_rows(data, 16)]
    model = load_model(Checkpoint.open(folder), device=device, dtype="auto", tile=32)
    steps, guidance = int(model.spec.steps.default), model.spec.guidance.default
    requests = [RowRequest(text, seed, steps, guidance) for seed, text in enumerate(captions)]
    return contact_sheet(list(generate(model, requests)), captions)
