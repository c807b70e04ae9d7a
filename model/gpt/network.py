"""The transformer over text and codes: causal, with or without a cache of what came before.

RMSNorm, SwiGLU, rotary positions, normalised queries and keys: the architecture of Qwen3, a Llama
with qk-norm. Both ways of running it compute the same, and a KV slot depends on what was written to
that slot alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.gpt.codec import Codec
from model.gpt.config import GptConfig
from model.gpt.sequence import NOTHING, Layout
from model.layers import (
    HIDDEN,
    Attention,
    RMSNorm,
    SwiGLU,
    feed_forward_width,
    rotary_table,
    rotate,
)


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of one layer, for every KV slot and position. Written in place."""

    keys: Tensor  # [slots, heads, positions, D]
    values: Tensor  # [slots, heads, positions, D]

    def first(self, slots: int) -> Cache:
        """That of the first slots, in the same memory."""
        return Cache(self.keys[:slots], self.values[:slots])

    def rows(self, positions: Tensor) -> Tensor:
        """Which rows of keys and values ``positions`` [slots, C] are: [slots, heads, C].

        Rows are numbered through all slots, heads and positions, alike in every layer.
        """
        slots, heads, length, _ = self.keys.shape
        sequences = torch.arange(slots * heads, device=positions.device).view(slots, heads, 1)
        return sequences * length + positions[:, None]

    def put(self, keys: Tensor, values: Tensor, rows: Tensor) -> None:
        """Writes [slots, heads, C, D] at ``rows``."""
        self.keys.flatten(0, 2).index_put_((rows,), keys)
        self.values.flatten(0, 2).index_put_((rows,), values)


class CausalAttention(Attention):
    """The same attention; with a cache, over all of its positions.

    Queries and keys are rotated in fp32 whatever the network's dtype: the two orders of a sequence
    have the image at different positions, and only their distances may count. They are normalised
    and rotated together, as a step's time is mostly that of starting small kernels.
    """

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        bias: Tensor | None = None,
        cache: Cache | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """x [B, C, W], table [2, B or 1, 1, C, D], bias [B or 1, 1, C, keys], rows of the cache."""
        batch, length, width = x.shape
        head_dim = width // self.heads
        qkv = self.qkv(x).view(batch, length, 3, self.heads, head_dim).permute(2, 0, 3, 1, 4)
        value = qkv[2]  # [B, heads, C, D]
        normed = F.rms_norm(qkv[:2].float(), (head_dim,), eps=self.query_norm.eps)
        query, key = rotate(normed * self._gains(), table).to(value.dtype)
        if cache is not None:
            assert rows is not None
            cache.put(key, value, rows)
            key, value = cache.keys, cache.values
        scores = (query @ key.transpose(2, 3)).float() * self.scale
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(-1).to(value.dtype) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))

    def _gains(self) -> Tensor:
        """Of queries and of keys: [2, 1, 1, 1, D]."""
        query, key = self.query_norm.gain, self.key_norm.gain
        assert query is not None
        assert key is not None
        return torch.stack((query, key))[:, None, None, None]


class CausalBlock(nn.Module):
    """Pre-norm: attention to what came before, then a gated feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = CausalAttention(width, heads)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, feed_forward_width(width))

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        bias: Tensor | None = None,
        cache: Cache | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """See `CausalAttention`."""
        x = x + self.attention(self.attention_norm(x), table, bias, cache, rows)
        return x + self.feed_forward(self.feed_forward_norm(x))


class CodeHead(nn.Module):
    """A place's codes from one position: each one knows those before it at the same place.

    Within a place the codes are drawn one after the other by this small network alone, so that
    more codes a place cost no more steps of the transformer.
    """

    def __init__(self, width: int, codes: int, values: int) -> None:
        super().__init__()
        later = range(codes - 1)
        self.before = nn.ModuleList(nn.Embedding(values, width) for _ in later)
        self.norms = nn.ModuleList(RMSNorm(width) for _ in later)
        self.blocks = nn.ModuleList(SwiGLU(width, 2 * width) for _ in later)
        self.out = nn.ModuleList(nn.Linear(width, values) for _ in range(codes))
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.startswith("before"):
                    parameter.normal_(std=0.2)
                elif name.startswith("out"):
                    parameter.zero_()

    def logits(self, state: Tensor, number: int) -> Tensor:
        """Of code ``number``, fp32 [..., values]; the state [..., W] knows the codes before it."""
        return self.out[number](state).float()

    def after(self, state: Tensor, number: int, code: Tensor) -> Tensor:
        """The state that also knows code ``number`` [...]."""
        state = self.norms[number](state + self.before[number](code))
        return state + self.blocks[number](state)


class GptTransformer(nn.Module):
    """Embedding ids in, what comes next out. See `model.gpt.sequence`."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = Layout.of(config)
        self.embedding = nn.Embedding(self.layout.rows, config.width, padding_idx=NOTHING)
        self.blocks = nn.ModuleList(
            CausalBlock(config.width, config.heads) for _ in range(config.depth)
        )
        self.norm = RMSNorm(config.width)
        self.code_head = CodeHead(config.width, config.codec.codes, config.codec.values)
        self.text_head = nn.Linear(config.width, config.vocabulary)
        with torch.no_grad():
            nn.init.normal_(self.embedding.weight, std=0.2)
            self.embedding.weight[NOTHING].zero_()
        nn.init.zeros_(self.text_head.weight)
        nn.init.zeros_(self.text_head.bias)

    def new_cache(self, slots: int, positions: int) -> list[Cache]:
        """Empty, on the network's device and in its dtype."""
        config, weight = self.config, self.embedding.weight
        shape = (slots, config.heads, positions, config.width // config.heads)
        return [
            Cache(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in range(config.depth)
        ]

    def forward(self, ids: Tensor, first: Tensor) -> Tensor:
        """Whole sequences [B, L, per_position], padded before ``first`` [B] → states [B, L, W]."""
        length = ids.shape[1]
        positions = torch.arange(length, device=ids.device)
        return self._run(ids, positions[None], _bias(positions[None], first, length), None)

    def advance(self, ids: Tensor, positions: Tensor, first: Tensor, cache: list[Cache]) -> Tensor:
        """C more of every KV slot: ids [slots, C, per_position] at ``positions`` [slots, C].

        They see what their slot holds from ``first`` [slots] up to themselves. → [slots, C, W].
        """
        bias = _bias(positions, first, cache[0].keys.shape[2])
        return self._run(ids, positions, bias, cache)

    def _run(
        self, ids: Tensor, positions: Tensor, bias: Tensor, cache: list[Cache] | None
    ) -> Tensor:
        x = self.embedding(ids).sum(-2)
        head_dim = self.config.width // self.config.heads
        table = rotary_table(positions.reshape(-1, 1), head_dim)
        table = table.view(2, positions.shape[0], 1, positions.shape[1], head_dim)
        rows = cache[0].rows(positions) if cache else None
        for layer, block in enumerate(self.blocks):
            x = block(x, table, bias, cache[layer] if cache else None, rows)
        state: Tensor = self.norm(x)
        return state


def _bias(positions: Tensor, first: Tensor, length: int) -> Tensor:
    """[B, 1, C, length], added to scores: what comes later, or before ``first``, is hidden."""
    keys = torch.arange(length, device=positions.device)
    hidden = (keys > positions[:, :, None]) | (keys < first[:, None, None])
    return (hidden * HIDDEN)[:, None]


class Gpt(nn.Module):
    """What a checkpoint holds: the codec and the transformer over its codes."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.codec = Codec(config.codec)
        self.transformer = GptTransformer(config)
