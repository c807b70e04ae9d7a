"""The prompt encoder: tokens to a few summary vectors, trained together with the image model.

Promises that an encoding depends on its own prompt alone and that its shape depends on none.
Knows nothing about strings and pictures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.blocks import Block, RMSNorm, rotary_table
from model.config import TextConfig
from model.tokenizer import PADDING

HIDDEN = -30_000.0  # added to the scores of padding; finite, so that it fits every dtype


class PromptEncoder(nn.Module):
    """A bidirectional transformer that reads a prompt into a few summary tokens.

    Learned summary tokens are put before the prompt's; their outputs are the encoding, so its
    shape never depends on the prompt (registers, Darcet et al. 2023, used as the output). An
    empty prompt is the summary tokens alone: the unconditional encoding.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.summary = nn.Parameter(torch.randn(config.summary, config.width) * 0.5)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = RMSNorm(config.width)
        nn.init.normal_(self.embedding.weight, std=0.5)
        positions = torch.arange(config.summary + config.max_tokens)[:, None]
        table = rotary_table(positions, config.width // config.heads)
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T ≤ max_tokens], padded with `PADDING` → [B, summary, width]."""
        batch, length = tokens.shape
        summary = self.config.summary
        x = torch.cat((self.summary.expand(batch, -1, -1), self.embedding(tokens)), dim=1)
        bias = F.pad((tokens == PADDING).float() * HIDDEN, (summary, 0))[:, None]
        table = self.table[:, : summary + length]
        for block in self.blocks:
            x = block(x, table, bias)
        return self.norm(x[:, :summary])
