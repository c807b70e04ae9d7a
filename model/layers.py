"""Layers that families share: norms, rotary positions, attention, blocks, patches, prompt encoder.

Plain tensors in, plain tensors out, with no state besides weights. Attention is written out rather
than taken from ``scaled_dot_product_attention``: at these lengths (under a hundred tokens) plain
products are faster to train on a CPU, and their order of summation does not depend on which kernel
is chosen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.tokenizer import PADDING

HIDDEN = -30_000.0
"""Added to the scores of what is hidden; finite, so that it fits every dtype."""


def rotary_table(positions: Tensor, head_dim: int, base: float = 10_000.0) -> Tensor:
    """Cosines and sines for rotary positions (RoFormer, Su et al. 2021), split evenly over axes.

    ``positions`` is [T, A] (A coordinates per token); the answer is [2, T, head_dim].
    Raises ``ValueError`` if ``head_dim`` does not divide into A pairs.
    """
    axes = positions.shape[1]
    if head_dim % (2 * axes):
        raise ValueError(f"head_dim {head_dim} must be a multiple of {2 * axes} for {axes} axes")
    pairs = head_dim // (2 * axes)
    pair = torch.arange(pairs, dtype=torch.float32, device=positions.device)
    frequency = base ** (-pair / pairs)
    angle = (positions.float()[:, :, None] * frequency).flatten(1)  # [T, head_dim / 2]
    angle = torch.cat((angle, angle), dim=1)
    return torch.stack((angle.cos(), angle.sin()))


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotates [..., T, D] by the [2, T, D] table of `rotary_table`."""
    left, right = x.chunk(2, dim=-1)
    cos, sin = table.to(x.dtype)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019), computed in fp32, with an optional gain."""

    def __init__(self, width: int, gain: bool = True, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(width)) if gain else None

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        if self.gain is not None:
            normed = normed * self.gain
        return normed.to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and normalised queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = RMSNorm(width // heads)
        self.key_norm = RMSNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [B, T, W], table [2, T, W / heads], bias (added to the scores) [B, 1 or T, T]."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        # Each [B · heads, T, D]: three axes keep the compiler from permuting the scores in memory.
        query, key, value = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2)
        query = rotate(self.query_norm(query), table)
        key = rotate(self.key_norm(key), table)
        scores = (query @ key.transpose(1, 2)).float() * self.scale
        if bias is not None:
            scores = scores + bias.repeat_interleave(self.heads, dim=0)
        mixed = (scores.softmax(-1).to(value.dtype) @ value).view(batch, self.heads, length, -1)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020); ``hidden`` is two thirds of 4 × width by custom."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


def feed_forward_width(width: int) -> int:
    """8/3 × width, rounded up to a multiple of 32."""
    return -(-(8 * width // 3) // 32) * 32


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a gated feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, feed_forward_width(width))

    def forward(self, x: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), table, bias)
        return x + self.feed_forward(self.feed_forward_norm(x))


class ModulatedBlock(nn.Module):
    """The same block with shift, scale and gate from outside (adaLN-zero, Peebles and Xie 2022).

    The six modulations are shared by all blocks and shifted by a learned bias for each of them
    (adaLN-single, PixArt-α, Chen et al. 2023).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation_bias = nn.Parameter(torch.zeros(6, width))
        self.attention_norm = RMSNorm(width, gain=False)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = RMSNorm(width, gain=False)
        self.feed_forward = SwiGLU(width, feed_forward_width(width))

    def forward(self, x: Tensor, modulation: Tensor, table: Tensor) -> Tensor:
        """x [B, T, W], modulation [B, 6, W], table as for `Attention`."""
        parts = (modulation + self.modulation_bias).to(x.dtype)[:, :, None].unbind(1)
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = parts  # each [B, 1, W]
        h = self.attention_norm(x) * (1 + scale_a) + shift_a
        x = x + gate_a * self.attention(h, table)
        h = self.feed_forward_norm(x) * (1 + scale_f) + shift_f
        return x + gate_f * self.feed_forward(h)


def to_patches(image: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] → [B, H·W / patch², C·patch²], row by row."""
    batch, channels, height, width = image.shape
    x = image.view(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def from_patches(patches: Tensor, patch: int, size: int) -> Tensor:
    """The inverse of `to_patches` for square images of ``size``: → [B, C, size, size].

    In memory the channels come last: so a convolution of few channels takes half the time on a CPU.
    """
    batch, grid = len(patches), size // patch
    x = patches.view(batch, grid, grid, -1, patch, patch).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, size, size, -1).permute(0, 3, 1, 2)


class FrozenEmbedding(nn.Module):
    """Vectors of tokens that training does not move, in 8 bits, and a trained map to the width.

    What they hold is known of the words beforehand (`tools.word_vectors`), so that a word which no
    training prompt had lies near those that mean the same.
    """

    def __init__(self, vocabulary: int, channels: int, width: int) -> None:
        super().__init__()
        self.codes: Tensor
        self.scales: Tensor
        self.register_buffer("codes", torch.zeros(vocabulary, channels, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(vocabulary))
        self.into = nn.Linear(channels, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [...] → [..., width]."""
        scales = self.scales[tokens].to(self.into.weight.dtype)
        return self.into(self.codes[tokens] * scales[..., None])


class PromptEncoder(nn.Module):
    """A bidirectional transformer from a prompt's tokens to a few summary vectors.

    Learned summary tokens are put before the prompt's; their outputs are the encoding, so its
    shape never depends on the prompt (registers, Darcet et al. 2023, used as the output). An
    empty prompt is the summary tokens alone: the unconditional encoding.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        depth: int,
        heads: int,
        summary: int,
        max_tokens: int,
        frozen_channels: int = 0,
    ) -> None:
        super().__init__()
        self.embedding: nn.Module
        if frozen_channels:
            self.embedding = FrozenEmbedding(vocabulary, frozen_channels, width)
        else:
            self.embedding = nn.Embedding(vocabulary, width)
        self.summary = nn.Parameter(torch.randn(summary, width) * 0.5)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = RMSNorm(width)
        if isinstance(self.embedding, nn.Embedding):
            nn.init.normal_(self.embedding.weight, std=0.5)
        positions = torch.arange(summary + max_tokens)[:, None]
        table = rotary_table(positions, width // heads)
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T ≤ max_tokens], padded with `PADDING` → [B, summary, width]."""
        batch, length = tokens.shape
        summary = len(self.summary)
        x = torch.cat((self.summary.expand(batch, -1, -1), self.embedding(tokens)), dim=1)
        bias = F.pad((tokens == PADDING).float() * HIDDEN, (summary, 0))[:, None]
        table = self.table[:, : summary + length]
        for block in self.blocks:
            x = block(x, table, bias)
        return self.norm(x[:, :summary])
