"""How a gan is trained: critic and generator take turns, each on a batch of its own."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from model.captions import save_captions
from model.checkpoint import save_checkpoint
from model.config import CriticConfig, GanConfig
from model.data.pictures import PictureSet
from model.families import GanCheckpointConfig
from model.gan.critic import Critic
from model.gan.network import Generator
from model.gan.objective import GanObjective
from model.optimizer import OptimizerConfig
from model.recipe import Phase, Start, drawn_sheet, padded_tokens


@dataclass(frozen=True, slots=True)
class GanTraining:
    """What is trained, and on what. The critic does not ship."""

    network: GanConfig = field(default_factory=GanConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    objective: GanObjective = field(default_factory=GanObjective)
    prompt_tokens: int = 24  # longer training prompts are cut; short passes are fast


class Players(nn.Module):
    """Both networks: what is kept to resume."""

    def __init__(self, generator: Generator, critic: Critic) -> None:
        super().__init__()
        self.generator = generator
        self.critic = critic


class CriticLoss(nn.Module):
    """The critic's turn. Every picture and every prompt is read once."""

    def __init__(self, players: Players, objective: GanObjective) -> None:
        super().__init__()
        self.players = players
        self.objective = objective

    def forward(self, picture: Tensor, tokens: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """noise [P ≤ B, C, H, W] is for the first P pictures, whose gradients are penalised."""
        critic, objective = self.players.critic, self.objective
        with torch.no_grad():
            made = self.players.generator(latent, tokens).float()
        count, some = len(picture), len(noise)
        near = [objective.disturbed(each[:some], noise) for each in (picture, made)]
        features = critic.pictures(torch.cat((picture, made, *near)))
        wanted = critic.prompts(tokens)
        parts = features.split((count, count, some, some))
        real, fake, near_real, near_fake = (
            critic.score(part, wanted[: len(part)]) for part in parts
        )
        other = critic.score(parts[0].roll(1, 0), wanted)  # its neighbour's picture
        slopes = objective.slope(real[:some], near_real) + objective.slope(fake[:some], near_fake)
        return (
            objective.pairs(real, fake)
            + objective.mismatch * objective.pairs(real, other)
            + objective.gamma / 2 * slopes
        )


class GeneratorLoss(nn.Module):
    """The generator's turn."""

    def __init__(self, players: Players, objective: GanObjective) -> None:
        super().__init__()
        self.players = players
        self.objective = objective

    def forward(self, picture: Tensor, tokens: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """The same batch as the critic's; ``noise`` is not used."""
        critic, objective = self.players.critic, self.objective
        with torch.no_grad():
            wanted = critic.prompts(tokens)
            real = critic.score(critic.pictures(picture), wanted)
        made = self.players.generator(latent, tokens).float()
        fake = critic.score(critic.pictures(made), wanted)
        distance = objective.distance(made, picture, tokens)
        return objective.pairs(fake, real) + objective.anchor * distance


class GanRecipe:
    """See `model.recipe.Recipe`."""

    def __init__(
        self, data: PictureSet, config: GanTraining, optimizer: OptimizerConfig, start: Start
    ) -> None:
        self._data = data
        self._config = config
        self._start = start
        generator, critic = Generator(config.network), Critic(config.critic)
        self.network = Players(generator, critic)
        self.averaged = generator
        self.phases = [
            Phase("loss", CriticLoss(self.network, config.objective), [adam(critic, optimizer)]),
            Phase(
                "generator_loss",
                GeneratorLoss(self.network, config.objective),
                [adam(generator, optimizer)],
            ),
        ]

    @property
    def fixed(self) -> Mapping[str, Any]:
        return asdict(self._config)

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Pictures, tokens, latents, and noise for a share of the pictures."""
        config = self._config
        picture, prompts = self._data.sample(count, draw)
        penalised = max(1, round(count * config.objective.penalised))
        return (
            picture,
            padded_tokens(self._start.tokenizer, prompts, config.prompt_tokens),
            torch.randn(count, config.network.latent, generator=generator),
            torch.randn((penalised, *picture.shape[1:]), generator=generator),
        )

    def save(self, folder: Path, average: Mapping[str, Tensor]) -> None:
        config = GanCheckpointConfig(
            description=self._start.description,
            licence=self._start.licence,
            network=self._config.network,
        )
        save_checkpoint(folder, config, average, self._start.tokenizer)
        # One for each group: drawn unasked, all that it learned has equal chances.
        save_captions(folder, (self._data.captions[group[0]] for group in self._data.groups))

    def sheet(self, folder: Path, device: str) -> Image.Image:
        return drawn_sheet(self._data, folder, device)


def adam(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Without momentum, which makes two players circle each other (as in R3GAN, β₁ = 0)."""
    return torch.optim.Adam(
        network.parameters(), lr=config.learning_rate, betas=(0.0, 0.99), fused=True
    )
