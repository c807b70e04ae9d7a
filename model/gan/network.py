"""The generator: a latent and a prompt in, an image out, in one pass.

It is the flow transformer with two differences: tokens are made of the latent instead of a noisy
image, and there is no time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.flow.network import PromptEncoding, PromptReader, Trunk
from model.gan.config import GanConfig


class LatentReader(PromptReader):
    """A prompt and a latent in one layout: the latent decides what the prompt leaves open.

    How much that is (``openness``, 0…1) is learned: nearly nothing of a prompt that names one
    image, all without a prompt. So a layout made of a latent lies among those made of prompts, and
    is drawn as they are.
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__(config)
        self.latent_in = nn.Linear(config.latent, config.layout_width, bias=False)
        self.openness = nn.Linear(config.text.summary * config.text.width, 1)
        nn.init.normal_(self.latent_in.weight, std=config.latent**-0.5)
        nn.init.zeros_(self.openness.weight)
        nn.init.constant_(self.openness.bias, 2.0)  # open: what closes is learned in a few steps

    def read(self, summary: Tensor, latent: Tensor) -> PromptEncoding:
        """The ``encoder``'s summary of a prompt, [B, S, W of the text]; latent [B, latent]."""
        flat = summary.flatten(1)
        hidden = self.layout_in(flat) + self.openness(flat).sigmoid() * self.latent_in(latent)
        return PromptEncoding(self.prefix(summary), self.vector(flat), self.lay_out(hidden))


class Generator(Trunk):
    """x = G(z, c). The latent z [latent] ~ N(0, I) reaches the image by two ways.

    All of its numbers together shape the layout, and each patch gets its own share of them.
    """

    config: GanConfig

    def __init__(self, config: GanConfig) -> None:
        super().__init__(config)
        width, channels = config.width, config.channels
        self.reader = LatentReader(config)
        self.share = config.latent // config.grid**2
        self.latent_embed = nn.Linear(self.share, width)
        self.beginning = nn.Parameter(torch.zeros(width))  # in place of flow's time
        self.add_trunk()
        # Both see across the borders of patches; the first is what flow has, less its noise.
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)
        self.refine = nn.Sequential(
            nn.Conv2d(channels, config.refine_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(config.refine_channels, channels, 3, padding=1),
        )
        for layer in (self.smooth, self.refine[2]):  # nothing at first
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.latent_embed.weight, std=self.share**-0.5)
        nn.init.normal_(self.patch_out.weight, std=0.02)

    def forward(self, latent: Tensor, tokens: Tensor) -> Tensor:
        """latent [B, latent], tokens [B, T ≤ max_tokens], padded → [B, C, H, W], about −1…1."""
        return self.draw(latent, self.summarize(tokens))

    def summarize(self, tokens: Tensor) -> Tensor:
        """tokens [B, T ≤ max_tokens], padded → [B, S, W of the text]. What lies between two
        summaries stands for an image between theirs."""
        summary: Tensor = self.reader.encoder(tokens)
        return summary

    def draw(self, latent: Tensor, summary: Tensor) -> Tensor:
        """latent [B, latent], summary of a prompt [B, S, W of the text] → [B, C, H, W]."""
        latent = latent.to(self.latent_embed.weight.dtype)
        prefix, vector, layout = self.reader.read(summary, latent)
        patches = self.latent_embed(latent.view(len(latent), -1, self.share)) + layout
        x = self.run_trunk(prefix, patches, self.beginning + vector)
        x = x + self.smooth(x)
        image: Tensor = x + self.refine(x)
        return image
