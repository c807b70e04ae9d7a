"""How a gan is trained: discriminator and generator alternate, each on a batch of its own."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.data.pictures import PictureSet
from model.flow.config import FlowConfig
from model.flow.network import time_features
from model.flow.training import fitted, shape
from model.gan.config import DiscriminatorConfig, GanCheckpointConfig, GanConfig
from model.gan.discriminator import Discriminator
from model.gan.network import Generator
from model.gan.objective import GanObjective
from model.training.optimizer import OptimizerConfig
from model.training.recipe import Phase, Preset, Recipe, Start, TrainingOptions

LATENT = 256
"""Numbers of a latent; some more or fewer where the patches do not divide them."""


@dataclass(frozen=True, slots=True)
class GanTraining:
    """What is trained, and on what. The discriminator does not ship."""

    network: GanConfig = field(default_factory=GanConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    objective: GanObjective = field(default_factory=GanObjective)
    prompt_tokens: int = 24  # longer training prompts are cut; short passes are fast


class Players(nn.Module):
    """Both networks: what is kept to resume."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator


class PhaseLoss(nn.Module):
    """A phase's loss, of a batch [B]."""

    def __init__(self, players: Players, objective: GanObjective) -> None:
        super().__init__()
        self.players = players
        self.objective = objective


class DiscriminatorLoss(PhaseLoss):
    """The discriminator's phase. Every image and every prompt is encoded once."""

    def forward(self, picture: Tensor, tokens: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """noise [P ≤ B, C, H, W] is for the first P images, whose gradients are penalised."""
        discriminator, objective = self.players.discriminator, self.objective
        with torch.no_grad():
            drawn = self.players.generator(latent, tokens).float()
        count, some = len(picture), len(noise)
        near = [objective.disturbed(images[:some], noise) for images in (picture, drawn)]
        features = discriminator.images(torch.cat((picture, drawn, *near)))
        wanted = discriminator.prompts(tokens)
        parts = features.split((count, count, some, some))
        real, fake, near_real, near_fake = (
            discriminator.score(part, wanted[: len(part)]) for part in parts
        )
        other = discriminator.score(parts[0].roll(1, 0), wanted)  # its neighbour's image
        slopes = objective.slope(real[:some], near_real) + objective.slope(fake[:some], near_fake)
        return (
            objective.pairs(real, fake)
            + objective.mismatch * objective.pairs(real, other)
            + objective.gamma / 2 * slopes
        )


class GeneratorLoss(PhaseLoss):
    """The generator's phase."""

    def forward(self, picture: Tensor, tokens: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """The same batch as the discriminator's; ``noise`` is not used."""
        discriminator, objective = self.players.discriminator, self.objective
        with torch.no_grad():
            wanted = discriminator.prompts(tokens)
            real = discriminator.score(discriminator.images(picture), wanted)
        drawn = self.players.generator(latent, tokens).float()
        fake = discriminator.score(discriminator.images(drawn), wanted)
        distance = objective.distance(drawn, picture, tokens)
        return objective.pairs(fake, real) + objective.anchor * distance


class GanRecipe(Recipe[GanTraining]):
    """See `model.training.recipe.Recipe`."""

    preset: ClassVar = Preset(patch=8, width=256, depth=6, learning_rate=2e-4)
    checkpoint_config = GanCheckpointConfig

    def __init__(
        self, data: PictureSet, config: GanTraining, optimizer: OptimizerConfig, start: Start
    ) -> None:
        super().__init__(data, config, start)
        generator, discriminator = Generator(config.network), Discriminator(config.discriminator)
        players = Players(generator, discriminator)
        self.network = players
        self.averaged = generator
        discriminator_loss = DiscriminatorLoss(players, config.objective)
        generator_loss = GeneratorLoss(players, config.objective)
        self.phases = [
            Phase("loss", discriminator_loss, [adam(discriminator, optimizer)]),
            Phase("generator_loss", generator_loss, [adam(generator, optimizer)]),
        ]

    @classmethod
    def of(
        cls, options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig, start: Start
    ) -> Self:
        """See `Recipe.of`. The generator has a flow's shape, so that it can begin as one."""
        flow = shape(replace(options, polish_channels=0), cls.preset, start)
        patches = flow.grid**2
        shared = {known.name: getattr(flow, known.name) for known in fields(FlowConfig)}
        network = GanConfig(**shared, latent=max(1, LATENT // patches) * patches)
        discriminator = DiscriminatorConfig(
            options.size, options.channels, layout_size=network.layout_size, text=network.text
        )
        return cls(data, GanTraining(network, discriminator), optimizer, start)

    def batch(
        self, count: int, draw: random.Random, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Images, tokens, latents, and noise for a share of the images."""
        config = self._config
        picture, prompts = self._data.sample(count, draw)
        penalised = max(1, round(count * config.objective.penalised))
        on = generator.device
        return (
            picture,
            self._start.tokens(prompts, config.prompt_tokens),
            torch.randn(count, config.network.latent, generator=generator, device=on),
            torch.randn((penalised, *picture.shape[1:]), generator=generator, device=on),
        )

    def adopt(self, weights: Mapping[str, Tensor], folder: Path) -> Mapping[str, Tensor]:
        """See `Recipe.adopt`; of a gan or of a flow."""
        network = self._config.network
        return warm_start(fitted(weights, folder, network, self._start), network.depth)

    def captions(self) -> Iterable[str]:
        """One for each group: without a prompt, all that it was trained on has equal chances."""
        return (self._data.captions[group[0]] for group in self._data.groups)


def adam(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Without momentum, which makes the two circle each other (as in R3GAN, β₁ = 0)."""
    return torch.optim.Adam(
        network.parameters(), lr=config.learning_rate, betas=(0.0, 0.99), fused=True
    )


SAME = ("reader.", "modulation.", "norm.", "patch_out.", "detail.")
"""Parts of the generator that flow has under the same name."""

PROMPT = ("encoder.", "layout_in.", "layout_out.")
"""Parts of flow's prompt reader that the discriminator has."""


def warm_start(weights: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Weights of a flow or a gan checkpoint under the names of `model.gan.training.Players`.

    For noise at time 0, a flow transformer predicts the mean of all images that the prompt may
    mean: blurred, but the right one. A generator that begins there has to learn only what the
    discriminator can teach, detail (adversarial post-training, Lin et al. 2025). The discriminator
    begins with flow's prompt encoder.

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
        f"discriminator.prompts.{name}": value
        for name, value in reader.items()
        if name.startswith(PROMPT)
    }


def _blocks(weights: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """``depth`` blocks, renumbered."""
    numbers = {int(name.split(".")[1]) for name in weights if name.startswith("blocks.")}
    last = len(numbers) - 1
    chosen = [round(index * last / max(1, depth - 1)) for index in range(depth)]
    return {
        f"blocks.{index}.{name}": value
        for index, number in enumerate(chosen)
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
