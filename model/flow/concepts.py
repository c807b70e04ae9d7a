"""What a prompt asks for, as a choice among concepts that training knew by number.

Images of known symbols in known styles are learned fastest by symbol and style, whatever prompts
call them; and what prompts call them is learned without an image. So a network is trained on
numbers, and its prompt encoder, apart, on which number a prompt means (`tools.concept_reader`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.flow.config import TextConfig
from model.layers import Block, rotary_table


class ConceptMemory(nn.Module):
    """Key-value memories (Miller et al. 2016), one for each kind of concept.

    The encoder's first token is compared with the keys of the first kind (symbols), and so on;
    what is read is the mean of the kind's values, weighted by the softmax. A value of the first
    kind is as many tokens as the summary has, of the others one. Blocks then put them together.
    Concept 0 of each kind is for prompts that name none.
    """

    def __init__(self, counts: Sequence[int], text: TextConfig, depth: int = 1) -> None:
        super().__init__()
        self.counts = tuple(counts)
        first, *others = counts
        width = text.width
        self.keys = nn.Parameter(torch.randn(sum(counts), width) * width**-0.5)
        self.first = nn.Parameter(torch.randn(first, text.summary, width) * 0.5)
        self.others = nn.Parameter(torch.randn(sum(others), width) * 0.5)
        self.blocks = nn.ModuleList(Block(width, text.heads) for _ in range(depth))
        positions = torch.arange(text.summary + len(others))[:, None]
        self.table: Tensor
        table = rotary_table(positions, width // text.heads)
        self.register_buffer("table", table, persistent=False)

    def forward(self, encoded: Tensor) -> Tensor:
        """encoded [B, summary, W] → what the concepts are that it means: [B, summary, W]."""
        first, *others = (logits.softmax(-1).to(encoded.dtype) for logits in self.logits(encoded))
        values = self.others.split(self.counts[1:])
        read = [weights @ value for weights, value in zip(others, values, strict=True)]
        return self._together((first @ self.first.flatten(1)).view_as(encoded), read)

    def logits(self, encoded: Tensor) -> tuple[Tensor, ...]:
        """How much each concept is meant: for each kind, fp32 [B, count]."""
        kinds = self.keys.float().split(self.counts)
        asked = encoded.float().unbind(1)
        return tuple(F.linear(one, keys) for one, keys in zip(asked, kinds, strict=False))

    def of_numbers(self, numbers: Tensor) -> Tensor:
        """What concepts are whose numbers [B, kinds] are known: [B, summary, W]."""
        first, *others = numbers.unbind(1)
        values = self.others.split(self.counts[1:])
        read = [value[one] for one, value in zip(others, values, strict=True)]
        return self._together(self.first[first], read)

    def _together(self, first: Tensor, others: Sequence[Tensor]) -> Tensor:
        x = torch.cat((first, *(one[:, None] for one in others)), dim=1)
        for block in self.blocks:
            x = block(x, self.table)
        return x[:, : first.shape[1]]
