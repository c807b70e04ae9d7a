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

    The encoder's first token is compared with the keys of the first kind (symbols), its second one
    with those of the second, and so on. What is read is the mean of a kind's values, weighted by
    the softmax, or the value of the likeliest alone: of two symbols that a prompt may mean, a mean
    is drawn as neither. A value of the first kind is as many tokens as the summary has, one of
    another kind is a single token; a block mixes them. Concept 0 of each kind is for prompts that
    name none.
    """

    def __init__(self, counts: Sequence[int], text: TextConfig) -> None:
        """``counts`` has how many concepts of each kind there are, at most a kind a summary token
        (`model.flow.config.FlowConfig.concepts`)."""
        super().__init__()
        self.counts = tuple(counts)
        first, *others = counts
        width = text.width
        self.keys = nn.Parameter(torch.randn(sum(counts), width) * width**-0.5)
        # Values are as large as the embeddings of a `PromptEncoder`.
        self.first = nn.Parameter(torch.randn(first, text.summary, width) * 0.5)
        self.others = nn.Parameter(torch.randn(sum(others), width) * 0.5)
        self.blocks = nn.ModuleList([Block(width, text.heads)])
        positions = torch.arange(text.summary + len(others))[:, None]
        self.table: Tensor
        table = rotary_table(positions, width // text.heads)
        self.register_buffer("table", table, persistent=False)

    def forward(self, encoded: Tensor, *, likeliest: bool = False) -> Tensor:
        """A `PromptEncoder`'s output [B, summary, W] → what it means: [B, summary, W].

        With ``likeliest``, one concept of each kind; no gradient reaches the encoder then.
        """
        meant = self.logits(encoded)
        if likeliest:
            return self.of_numbers(torch.stack([logits.argmax(-1) for logits in meant], dim=1))
        first, *others = (logits.softmax(-1).to(encoded.dtype) for logits in meant)
        read = [weights @ values for weights, values in zip(others, self._others(), strict=True)]
        return self._mixed((first @ self.first.flatten(1)).view_as(encoded), read)

    def logits(self, encoded: Tensor) -> tuple[Tensor, ...]:
        """How much encoded [B, summary, W] means each concept: for each kind, fp32 [B, count].

        Summary tokens beyond the number of kinds are not looked at.
        """
        kinds = self.keys.float().split(self.counts)
        asked = encoded.float().unbind(1)
        return tuple(F.linear(token, keys) for token, keys in zip(asked, kinds, strict=False))

    def of_numbers(self, numbers: Tensor) -> Tensor:
        """What the concepts with numbers [B, kinds] are: [B, summary, W]."""
        first, *others = numbers.unbind(1)
        read = [values[number] for number, values in zip(others, self._others(), strict=True)]
        return self._mixed(self.first[first], read)

    def _others(self) -> tuple[Tensor, ...]:
        """The values of each kind but the first, [count, W]."""
        return self.others.split(self.counts[1:])

    def _mixed(self, first: Tensor, others: Sequence[Tensor]) -> Tensor:
        """first [B, summary, W] and others, each [B, W] → [B, summary, W]."""
        x = torch.cat((first, *(token[:, None] for token in others)), dim=1)
        for block in self.blocks:
            x = block(x, self.table)
        return x[:, : first.shape[1]]
