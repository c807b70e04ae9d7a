"""The passes of a gpt, each a function of tensors of one shape; all but the codec's share a cache.

Each is made for every lane at once. A lane that takes no part writes to a slot that nobody reads,
so that its own are as they were. On a GPU each is one CUDA graph. Knows nothing about rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.gpt.choice import choose
from model.gpt.network import Gpt
from model.gpt.sequence import END, UNKNOWN
from model.passes import FixedPass, Mode

CHUNK = 16
"""Positions that a lane is fed in one pass: most prompts take one. More would make rows that are
under way wait longer for those that begin."""


class GptPasses:
    """Five kinds: a picture to codes, codes to a picture; lanes fed, drawing, reading."""

    def __init__(self, network: Gpt, tile: int, mode: Mode) -> None:
        self._network = network
        transformer = network.transformer
        layout, config = transformer.layout, transformer.config
        device, self._dtype = (
            transformer.embedding.weight.device,
            transformer.embedding.weight.dtype,
        )
        self.nowhere = config.length  # the slot of what takes no part
        self._cache = transformer.new_cache(tile, config.length + 1)

        def whole(*shape: int, value: int = 0) -> Tensor:
            return torch.full(shape, value)

        codec, size = config.codec, config.codec.image_size
        # One picture at a time: a row needs each of them once or a few times, not at every step.
        picture = torch.zeros(1, codec.channels, size, size)
        codes = whole(1, codec.places, codec.codes)
        chunk = (whole(tile, CHUNK, layout.bag), whole(tile, CHUNK, value=self.nowhere))
        self.encoding = FixedPass(self._encode, [picture], device, mode)
        self.decoding = FixedPass(self._decode, [codes], device, mode)
        self.feeding = FixedPass(self._feed, [*chunk, whole(tile)], device, mode)
        self.drawing = FixedPass(
            self._draw,
            [
                whole(tile, 1, layout.bag),
                whole(tile, 1, value=self.nowhere),
                whole(tile),
                torch.arange(tile),
                torch.arange(tile),
                torch.ones(tile),
                torch.ones(tile),
                whole(tile, value=codec.values),
                torch.ones(tile),
                torch.zeros(tile, codec.codes, dtype=torch.float64),
            ],
            device,
            mode,
        )
        self.reading = FixedPass(
            self._read,
            [*chunk, whole(tile), whole(tile, CHUNK, value=UNKNOWN), whole(tile)],
            device,
            mode,
        )

    def _encode(self, picture: Tensor) -> tuple[Tensor]:
        """[1, C, H, W] → codes [1, places, codes]."""
        return (self._network.codec.encode(picture.to(self._dtype)),)

    def _decode(self, codes: Tensor) -> tuple[Tensor]:
        """→ fp32 [1, C, H, W]."""
        return (self._network.codec.decode(codes).float(),)

    def _feed(self, bags: Tensor, slots: Tensor, first: Tensor) -> tuple[Tensor]:
        """bags [tile, CHUNK, bag] at ``slots`` [tile, CHUNK] of lanes that begin at ``first``."""
        hidden = self._network.transformer.advance(bags, slots, first, self._cache)
        return (hidden[:, -1],)

    def _draw(
        self,
        bags: Tensor,  # [tile, 1, bag]
        slots: Tensor,  # [tile, 1]
        first: Tensor,  # [tile]
        partner: Tensor,  # [tile], the lane that knows nothing drawn; itself without guidance
        leader: Tensor,  # [tile], the lane whose choice is this one's
        guidance: Tensor,  # [tile]
        temperature: Tensor,  # [tile]
        top_k: Tensor,  # [tile]
        top_p: Tensor,  # [tile]
        uniform: Tensor,  # [tile, codes], float64
    ) -> tuple[Tensor]:
        """The codes of the next place: [tile, codes]."""
        transformer = self._network.transformer
        head = transformer.code_head
        state = transformer.advance(bags, slots, first, self._cache)[:, 0]
        codes: list[Tensor] = []
        for number in range(uniform.shape[1]):
            if number:
                state = head.after(state, number - 1, codes[-1])
            logits = head.logits(state, number)
            logits = guided(logits, logits[partner], guidance)
            chosen = choose(logits, temperature, top_k, top_p, uniform[:, number])
            codes.append(chosen[leader])
        return (torch.stack(codes, dim=1),)

    def _read(
        self,
        bags: Tensor,  # [tile, CHUNK, bag]
        slots: Tensor,  # [tile, CHUNK]
        first: Tensor,  # [tile]
        targets: Tensor,  # [tile, CHUNK], what comes after each
        last: Tensor,  # [tile], the position in the chunk whose successors are asked for
    ) -> tuple[Tensor, Tensor]:
        """The targets' log-probability, summed [tile]; all tokens' after ``last`` [tile, V]."""
        transformer = self._network.transformer
        hidden = transformer.advance(bags, slots, first, self._cache)
        likely = transformer.text_head(hidden).float().log_softmax(-1)
        given = targets != UNKNOWN
        each = likely.gather(2, targets.clamp(min=END)[:, :, None]).squeeze(2)
        following = likely.gather(1, last[:, None, None].expand(-1, -1, likely.shape[2]))
        return (each * given).sum(1), following.squeeze(1)


def guided(logits: Tensor, undrawn: Tensor, guidance: Tensor) -> Tensor:
    """(logits + (g − 1) · undrawn) / g, of logits [B, V] and guidance g ≥ 1, [B].

    A product of experts (Hinton 2002). ``logits`` are what comes next after all that was drawn,
    ``undrawn`` after what the request said alone. The first keeps a picture together, but goes on
    from what was drawn amiss; the second knows of nothing that was drawn. At 1 only the first
    counts; the more guidance, the more does the second: closer to the prompt, less varied.
    """
    return torch.lerp(undrawn, logits, 1 / guidance[:, None])
