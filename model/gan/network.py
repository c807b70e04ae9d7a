"""The generator: a latent and a prompt in, a picture out, in one pass.

It is the flow transformer with two differences: tokens are made of the latent instead of a noisy
picture, and there is no time. Knows nothing about critics, losses or strings.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.blocks import ModulatedBlock, RMSNorm, rotary_table
from model.config import GanConfig
from model.flow.network import PromptEncoding, PromptReader
from model.patches import from_patches


class LatentReader(PromptReader):
    """Reads a prompt and a latent into one layout: the latent says what the prompt leaves open.

    How much that is, is learned: nearly nothing of a prompt that names one picture, all without a
    prompt. So an idea made of a latent lies among those made of prompts, and is drawn as they are.
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
        idea = self.layout_in(flat) + self.openness(flat).sigmoid() * self.latent_in(latent)
        return PromptEncoding(self.prefix(summary), self.vector(flat), self.lay_out(idea))


class Generator(nn.Module):
    """x = G(z, c). The latent z [latent] ~ N(0, I) reaches the picture by two ways.

    All of its numbers together shape the layout, and each patch gets its own share of them.
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        patches, patch = config.grid**2, config.channels * config.patch_size**2
        self.reader = LatentReader(config)
        self.share = config.latent // patches
        self.latent_embed = nn.Linear(self.share, width)
        self.beginning = nn.Parameter(torch.zeros(width))  # in place of flow's time
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(
            ModulatedBlock(width, config.heads) for _ in range(config.depth)
        )
        self.norm = RMSNorm(width)
        self.patch_out = nn.Linear(width, patch)
        # Both see across the borders of patches; the first is what flow has, less its noise.
        self.smooth = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.refine = nn.Sequential(
            nn.Conv2d(config.channels, config.refine_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(config.refine_channels, config.channels, 3, padding=1),
        )
        # Positions in eighths of the picture, as flow has them.
        side = (torch.arange(config.grid) + 0.5) * (8 / config.grid) + 0.5
        grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).view(-1, 2)
        positions = torch.cat((torch.zeros(config.text.summary, 2), grid))
        table = rotary_table(positions, width // config.heads, base=100.0)
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Every block starts as the identity (adaLN-zero) and the convolutions as nothing."""
        for layer in (self.modulation, self.smooth, self.refine[2]):
            assert isinstance(layer, nn.Linear | nn.Conv2d)
            assert layer.bias is not None
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.latent_embed.weight, std=self.share**-0.5)
        nn.init.normal_(self.patch_out.weight, std=0.02)
        nn.init.zeros_(self.patch_out.bias)

    def forward(self, latent: Tensor, tokens: Tensor) -> Tensor:
        """latent [B, latent], tokens [B, T ≤ max_tokens], padded → [B, C, H, W], about −1…1."""
        return self.draw(latent, self.summarize(tokens))

    def summarize(self, tokens: Tensor) -> Tensor:
        """tokens [B, T ≤ max_tokens], padded → [B, S, W of the text]. What lies between two
        summaries stands for a picture between theirs."""
        summary: Tensor = self.reader.encoder(tokens)
        return summary

    def draw(self, latent: Tensor, summary: Tensor) -> Tensor:
        """latent [B, latent], summary of a prompt [B, S, W of the text] → [B, C, H, W]."""
        config = self.config
        latent = latent.to(self.latent_embed.weight.dtype)
        prefix, vector, layout = self.reader.read(summary, latent)
        own = latent.view(len(latent), -1, self.share)
        x = torch.cat((prefix, self.latent_embed(own) + layout), dim=1)
        modulation = self.modulation(F.silu(self.beginning + vector)).unflatten(1, (6, -1))
        for block in self.blocks:
            x = block(x, modulation, self.table)
        x = self.patch_out(self.norm(x[:, config.text.summary :]))
        x = from_patches(x, config.patch_size, config.image_size)
        x = x + self.smooth(x)
        picture: Tensor = x + self.refine(x)
        return picture
