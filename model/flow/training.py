"""How flow is trained: an image, noise and a time make a point on the way between them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from model.data.pictures import PictureSet
from model.flow.config import FlowCheckpointConfig, FlowConfig, TextConfig
from model.flow.network import FlowTransformer
from model.flow.objective import FlowObjective
from model.training.optimizer import OptimizerConfig, optimizers
from model.training.recipe import Phase, Preset, Recipe, Start, TrainingOptions


@dataclass(frozen=True, slots=True)
class FlowTraining:
    """What is trained, and on what."""

    network: FlowConfig = field(default_factory=FlowConfig)
    objective: FlowObjective = field(default_factory=FlowObjective)
    prompt_dropout: float = 0.1  # share of images trained without a prompt, for guidance
    prompt_tokens: int = 24  # longer training prompts are cut; short passes are fast


class FlowLoss(nn.Module):
    """Network and objective as one module, so that both are compiled and distributed together."""

    def __init__(self, network: FlowTransformer, objective: FlowObjective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, image: Tensor, noise: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        noisy = self.objective.noisy(image, noise, time)
        return self.objective.loss(self.network(noisy, time, tokens), image, noisy, time)


class FlowRecipe(Recipe[FlowTraining]):
    """See `model.training.recipe.Recipe`."""

    preset: ClassVar = Preset(patch=8, width=256, depth=8)
    checkpoint_config = FlowCheckpointConfig

    def __init__(
        self, data: PictureSet, config: FlowTraining, optimizer: OptimizerConfig, start: Start
    ) -> None:
        super().__init__(data, config, start)
        self.network = FlowTransformer(config.network)
        self.averaged = self.network
        loss = FlowLoss(self.network, config.objective)
        self.phases = [Phase("loss", loss, optimizers(self.network, optimizer))]

    @classmethod
    def of(cls, options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig) -> Self:
        start = Start.of(options, data)
        network = shape(options, cls.preset, start.vocabulary)
        return cls(data, FlowTraining(network), optimizer, start)

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Images, noise, times and tokens."""
        config = self._config
        picture, prompts = self._data.sample(count, draw)
        prompts = ["" if draw.random() < config.prompt_dropout else text for text in prompts]
        return (
            picture,
            torch.randn(picture.shape, generator=generator),
            config.objective.times(count, generator),
            self._start.tokens(prompts, config.prompt_tokens),
        )


def shape(options: TrainingOptions, preset: Preset, vocabulary: int) -> FlowConfig:
    """A network as the options have it. Raises ``ValueError`` for sizes that do not divide."""
    given = options.shape(preset)
    grid = options.size // given.patch
    return FlowConfig(
        image_size=options.size,
        patch_size=given.patch,
        channels=options.channels,
        width=given.width,
        depth=given.depth,
        heads=given.heads,
        layout_size=-(-8 // grid) * grid if grid < 8 else grid,  # a multiple of it, 8 or more
        text=TextConfig(vocabulary=vocabulary, width=given.width, heads=given.heads),
    )
