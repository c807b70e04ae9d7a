"""The discriminator: does an image look real, and is it what the prompt asks for? One number.

Convolutions encode the image, a transformer encodes the prompt, and they meet at the end, so that
one encoding of each serves any pairs of them.
"""

from __future__ import annotations

import math
from dataclasses import asdict

import torch.nn.functional as F
from torch import Tensor, nn

from model.gan.config import DiscriminatorConfig
from model.layers import PromptEncoder


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity, without norms; nothing but the identity at first.

    (Fixup, Zhang et al. 2019, which R3GAN takes too.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        h = F.leaky_relu(self.into(F.leaky_relu(x, 0.2)), 0.2)
        return x + self.out(h)


class ImageEncoder(nn.Module):
    """[B, channels, S, S] → features [B, C, s, s]: a residual block at each size below S."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * config.channels, config.width, 3, padding=1),
            ResidualBlock(config.width),
        ]
        for halving in range(1, config.halvings):
            width = config.width << halving
            layers += [nn.AvgPool2d(2), nn.Conv2d(width // 2, width, 1), ResidualBlock(width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        return F.leaky_relu(self.layers(image), 0.2)


class PromptMap(nn.Module):
    """What the image of a prompt should look like, among the image's features.

    Its first layers have the names and shapes of flow's prompt reader, and can begin as these.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.encoder = PromptEncoder(**asdict(config.text))
        summary = config.text.summary * config.text.width
        self.shape = (config.layout_channels, config.layout_size, config.layout_size)
        self.layout_in = nn.Linear(summary, config.layout_width)
        self.layout_out = nn.Linear(config.layout_width, math.prod(self.shape))
        self.widen = nn.Conv2d(config.layout_channels, config.features, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T ≤ max_tokens], padded → [B, C, s, s]."""
        flat = self.encoder(tokens).flatten(1)
        layout = self.layout_out(F.silu(self.layout_in(flat))).unflatten(1, self.shape)
        return self.widen(layout)


class Discriminator(nn.Module):
    """D(x, c) = mean over places of (w + m(c)) · φ(x): a projection discriminator at each place.

    Projection (Miyato and Koyama 2018) says that the log-odds of an image's class are linear in
    its features; here they are so at every place of an s × s grid, and the class is a prompt.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.images = ImageEncoder(config)
        self.prompts = PromptMap(config)
        self.real = nn.Conv2d(config.features, 1, 1)

    def score(self, features: Tensor, prompt_map: Tensor) -> Tensor:
        """What `images` and `prompts` made of B pairs → [B], fp32; higher is more real."""
        alone = self.real(features).float().mean((1, 2, 3))
        match = (features.float() * prompt_map.float()).sum(1).mean((1, 2))
        return alone + match / math.sqrt(self.config.features)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """image [B, C, H, W], tokens [B, T] → [B]."""
        return self.score(self.images(image), self.prompts(tokens))
