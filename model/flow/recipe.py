"""How flow is trained: a picture, noise and a time make a point on the way between them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from model.checkpoint import save_checkpoint
from model.config import FlowConfig
from model.data.pictures import PictureSet
from model.families import FlowCheckpointConfig
from model.flow.network import FlowTransformer
from model.flow.objective import FlowObjective
from model.optimizer import OptimizerConfig, optimizers
from model.recipe import Phase, Start, drawn_sheet, padded_tokens


@dataclass(frozen=True, slots=True)
class FlowTraining:
    """What is trained, and on what."""

    network: FlowConfig = field(default_factory=FlowConfig)
    objective: FlowObjective = field(default_factory=FlowObjective)
    prompt_dropout: float = 0.1  # share of pictures trained without a prompt, for guidance
    prompt_tokens: int = 24  # longer training prompts are cut; short passes are fast


class FlowLoss(nn.Module):
    """Network and objective as one module, so that both are compiled and distributed together."""

    def __init__(self, network: FlowTransformer, objective: FlowObjective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, picture: Tensor, noise: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        noisy = self.objective.noisy(picture, noise, time)
        return self.objective.loss(self.network(noisy, time, tokens), picture, time)


class FlowRecipe:
    """See `model.recipe.Recipe`."""

    def __init__(
        self, data: PictureSet, config: FlowTraining, optimizer: OptimizerConfig, start: Start
    ) -> None:
        self._data = data
        self._config = config
        self._start = start
        self.network = FlowTransformer(config.network)
        self.averaged = self.network
        loss = FlowLoss(self.network, config.objective)
        self.phases = [Phase("loss", loss, optimizers(self.network, optimizer))]

    @property
    def fixed(self) -> Mapping[str, Any]:
        return asdict(self._config)

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Pictures, noise, times and tokens."""
        config = self._config
        picture, prompts = self._data.sample(count, draw)
        prompts = ["" if draw.random() < config.prompt_dropout else text for text in prompts]
        return (
            picture,
            torch.randn(picture.shape, generator=generator),
            config.objective.times(count, generator),
            padded_tokens(self._start.tokenizer, prompts, config.prompt_tokens),
        )

    def save(self, folder: Path, average: Mapping[str, Tensor]) -> None:
        config = FlowCheckpointConfig(
            description=self._start.description,
            licence=self._start.licence,
            network=self._config.network,
        )
        save_checkpoint(folder, config, average, self._start.tokenizer)

    def sheet(self, folder: Path, device: str) -> Image.Image:
        return drawn_sheet(self._data, folder, device)
