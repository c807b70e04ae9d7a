"""How flow is trained: an image, noise and a time make a point on the way between them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from model.checkpoint import TokenizedCheckpoint
from model.data.pictures import PictureSet
from model.flow.config import FlowCheckpointConfig, FlowConfig, TextConfig
from model.flow.inheritance import enlargement, resized, respelled
from model.flow.network import FlowTransformer
from model.flow.objective import FlowObjective
from model.registry import open_checkpoint
from model.training.optimizer import OptimizerConfig, optimizers
from model.training.recipe import HEAD_CHANNELS, Phase, Preset, Recipe, Start, TrainingOptions


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
    def of(
        cls, options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig, start: Start
    ) -> Self:
        network = shape(options, cls.preset, start)
        if start.shape is not None:
            network = replace(network, enlarged=enlargement(start.shape, network))
        training = FlowTraining(network, FlowObjective.for_size(options.size))
        return cls(data, training, optimizer, start)

    def adopt(self, weights: Mapping[str, Tensor], folder: Path) -> Mapping[str, Tensor]:
        """See `Recipe.adopt`; with patch layers and embeddings that fit."""
        return fitted(weights, folder, self._config.network, self._start)

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Images, noise, times and tokens."""
        config = self._config
        picture, prompts = self._data.sample(count, draw)
        prompts = ["" if draw.random() < config.prompt_dropout else text for text in prompts]
        return (
            picture,
            torch.randn(picture.shape, generator=generator, device=generator.device),
            config.objective.times(count, generator),
            self._start.tokens(prompts, config.prompt_tokens),
        )


def fitted(
    weights: Mapping[str, Tensor], folder: Path, network: FlowConfig, start: Start
) -> Mapping[str, Tensor]:
    """The weights of a flow, or of a gan, for images of another size and another tokenizer."""
    checkpoint = open_checkpoint(folder)
    if not isinstance(checkpoint, TokenizedCheckpoint) or start.tokenizer is None:
        return weights
    before = checkpoint.config.network
    if not isinstance(before, FlowConfig):
        return weights
    return respelled(resized(weights, before, network), checkpoint.tokenizer, start.tokenizer)


def shape(options: TrainingOptions, preset: Preset, start: Start) -> FlowConfig:
    """A network as the options have it, which knows concepts if the one it begins with does.

    It then learns from prompts what they mean, as all else. Raises ``ValueError`` for sizes that do
    not divide.
    """
    given = options.shape(preset)
    grid = options.size // given.patch
    text_width = min(given.width, TextConfig().width)
    return FlowConfig(
        image_size=options.size,
        patch_size=given.patch,
        channels=options.channels,
        width=given.width,
        depth=given.depth,
        heads=given.heads,
        layout_size=-(-8 // grid) * grid if grid < 8 else grid,  # a multiple of it, 8 or more
        detail_width=options.detail_width,
        polish_channels=options.polish_channels,
        concepts=tuple((start.shape or {}).get("concepts", ())),
        text=TextConfig(
            vocabulary=start.vocabulary,
            width=text_width,
            heads=max(1, text_width // HEAD_CHANNELS),
            frozen_channels=start.frozen_channels,
        ),
    )
