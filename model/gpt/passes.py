"""The passes of a gpt, each a function of tensors of one shape; all but the codec's share a cache.

Each is made for every KV slot at once, or for the first ones, where those that take no part come
last. A slot that takes no part writes to a position that nobody reads, so that its own are as they
were.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.gpt.network import Gpt
from model.gpt.sequence import END, UNKNOWN
from model.runtime.fixed_pass import FixedPass, Mode, rungs_in

CHUNK = 16
"""Positions that are prefilled in one pass: most prompts take one. More would make rows that are
under way wait longer for those that begin."""

ONE_BY_ONE = ("encode", "decode")
"""Kinds of passes that take one image: the codec's."""


@dataclass(frozen=True, slots=True)
class EncodeInputs:
    """One image at a time: a row needs this once, not at every step."""

    image: Tensor  # [1, C, H, W]


@dataclass(frozen=True, slots=True)
class DecodeInputs:
    """One image at a time."""

    codes: Tensor  # [1, places, codes]


@dataclass(frozen=True, slots=True)
class PrefillInputs:
    """A chunk for each slot; of fewer slots in a smaller pass, as in those that follow."""

    ids: Tensor  # [tile, CHUNK, per_position]
    positions: Tensor  # [tile, CHUNK]
    first: Tensor  # [tile], where the slot's sequence begins


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """One position for each slot, and how the codes that follow it are sampled."""

    ids: Tensor  # [tile, 1, per_position]
    positions: Tensor  # [tile, 1]
    first: Tensor  # [tile], where the slot's sequence begins
    undrawn: Tensor  # [tile], the slot that is not shown what was drawn; itself without guidance
    leader: Tensor  # [tile], the slot whose sample is this one's
    guidance: Tensor  # [tile]
    temperature: Tensor  # [tile]
    top_k: Tensor  # [tile]
    top_p: Tensor  # [tile]
    uniform: Tensor  # [tile, codes], float64


@dataclass(frozen=True, slots=True)
class ScoreInputs:
    """A chunk of text for each slot, whose probability is asked for."""

    ids: Tensor  # [tile, CHUNK, per_position]
    positions: Tensor  # [tile, CHUNK]
    first: Tensor  # [tile], where the slot's sequence begins
    targets: Tensor  # [tile, CHUNK], what comes after each; `UNKNOWN` does not count
    last: Tensor  # [tile], the position in the chunk whose successors are asked for


class GptPasses:
    """The five kinds, by the names that rows have for them (`ModelRow.kind`)."""

    def __init__(self, network: Gpt, tile: int, mode: Mode) -> None:
        transformer = network.transformer
        weight = transformer.embedding.weight
        layout, config, codec = transformer.layout, transformer.config, transformer.config.codec
        self.layout, self.slots, self.patch_size = layout, KvSlots(tile), codec.patch_size
        self.scratch = config.length  # the position that slots write to which take no part
        self._codec = network.codec
        self._transformer = transformer
        self._dtype = weight.dtype
        self._cache = transformer.new_cache(tile, config.length + 1)
        self.rungs = rungs = rungs_in(mode, tile)

        def whole(*shape: int, value: int = 0) -> Tensor:
            return torch.full(shape, value)

        def chunk() -> tuple[Tensor, Tensor, Tensor]:
            ids = whole(tile, CHUNK, layout.per_position)
            return ids, whole(tile, CHUNK, value=self.scratch), whole(tile)

        image = torch.zeros(1, codec.channels, codec.image_size, codec.image_size)
        codes = whole(1, codec.places, codec.codes)
        token = TokenInputs(
            ids=whole(tile, 1, layout.per_position),
            positions=whole(tile, 1, value=self.scratch),
            first=whole(tile),
            undrawn=torch.arange(tile),
            leader=torch.arange(tile),
            guidance=torch.ones(tile),
            temperature=torch.ones(tile),
            top_k=whole(tile, value=codec.values),
            top_p=torch.ones(tile),
            uniform=torch.zeros(tile, codec.codes, dtype=torch.float64),
        )
        score = ScoreInputs(*chunk(), whole(tile, CHUNK, value=UNKNOWN), whole(tile))
        device = weight.device
        self.encode = FixedPass(self._encode, EncodeInputs(image), device, mode)
        self.decode = FixedPass(self._decode, DecodeInputs(codes), device, mode)
        self.prefill = FixedPass(self._prefill, PrefillInputs(*chunk()), device, mode, rungs)
        self.token = FixedPass(self._token, token, device, mode, rungs)
        self.score = FixedPass(self._score, score, device, mode, rungs)

    def codes_of(self, values: Tensor) -> Tensor:
        """An image [C, H, W] → codes [places, codes]."""
        self.encode.inputs().image[0] = values
        return self.encode.fetch(1)[0][0].clone()

    def values_of(self, codes: Tensor) -> Tensor:
        """Codes [places, codes] → fp32 [C, H, W]; overwritten by the next pass."""
        self.decode.inputs().codes[0] = codes
        return self.decode.fetch(1)[0][0]

    def _encode(self, inputs: EncodeInputs) -> tuple[Tensor]:
        """→ codes [1, places, codes]."""
        return (self._codec.encode(inputs.image.to(self._dtype)),)

    def _decode(self, inputs: DecodeInputs) -> tuple[Tensor]:
        """→ fp32 [1, C, H, W]."""
        return (self._codec.decode(inputs.codes).float().contiguous(),)

    def _prefill(self, inputs: PrefillInputs) -> tuple[Tensor]:
        """Fills the cache. The states that it gives are there to be compared."""
        return (self._advance(inputs),)

    def _token(self, inputs: TokenInputs) -> tuple[Tensor, Tensor]:
        """The codes of the next place: [tile, codes]. And, to be compared, the last one's logits:
        codes seldom show the last bit of what they are sampled from."""
        head = self._transformer.code_head
        state = self._advance(inputs)[:, 0]
        codes: list[Tensor] = []
        for number in range(inputs.uniform.shape[1]):
            if number:
                state = head.after(state, number - 1, codes[-1])
            logits = head.logits(state, number)
            logits = guided(logits, logits[inputs.undrawn], inputs.guidance)
            sampled = sample(
                logits, inputs.temperature, inputs.top_k, inputs.top_p, inputs.uniform[:, number]
            )
            codes.append(sampled[inputs.leader])
        return torch.stack(codes, dim=1), logits

    def _score(self, inputs: ScoreInputs) -> tuple[Tensor, Tensor]:
        """The targets' log-probability, summed [tile]; all tokens' after ``last`` [tile, V]."""
        targets, state = inputs.targets, self._advance(inputs)
        likely = self._transformer.text_head(state).float().log_softmax(-1)
        given = targets != UNKNOWN
        own = likely.gather(2, targets.clamp(min=END)[:, :, None]).squeeze(2)
        last = inputs.last[:, None, None].expand(-1, -1, likely.shape[2])
        return (own * given).sum(1), likely.gather(1, last).squeeze(1)

    def _advance(self, inputs: PrefillInputs | TokenInputs | ScoreInputs) -> Tensor:
        """→ states [slots, C, W]."""
        cache = [layer.first(len(inputs.first)) for layer in self._cache]
        return self._transformer.advance(inputs.ids, inputs.positions, inputs.first, cache)


def guided(logits: Tensor, undrawn: Tensor, guidance: Tensor) -> Tensor:
    """(logits + (g − 1) · undrawn) / g, of logits [B, V] and guidance g ≥ 1, [B].

    A product of experts (Hinton 2002), not classifier-free guidance: no expert is subtracted.
    ``logits`` predict the next code from the request and all that was drawn, ``undrawn`` from the
    request alone. The first keep an image coherent, but repeat its mistakes; the second cannot. At
    1 only the first count; more guidance is closer to the prompt and less varied.
    """
    return torch.lerp(undrawn, logits, 1 / guidance[:, None])


ONE = 2.0**40
"""The probability 1 as a whole number. Of a few thousand tokens the sum stays exact in float64."""


def sample(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniform: Tensor
) -> Tensor:
    """A token for each row: logits fp32 [B, V], the rest [B] → [B].

    First the temperature, then of the likeliest tokens the ``top_k`` first ones (all V of them, to
    cut nothing), and of all the fewest whose sum reaches ``top_p`` (1 cuts nothing); then the one
    at which the sum of what is left passes ``uniform``, float64 in 0…1. At least one is left.

    A row's token depends on that row's numbers alone, to the bit: after the softmax all is done in
    whole numbers, whose sums do not depend on the order in which a library adds them up.
    """
    probabilities = (logits / temperature[:, None]).softmax(-1)
    weights, tokens = (
        (probabilities.double() * ONE).long().sort(dim=-1, descending=True, stable=True)
    )
    reached = weights.cumsum(-1)
    enough = (top_p.double() * reached[:, -1]).long()
    rank = torch.arange(logits.shape[1], device=logits.device)
    kept = (rank < top_k[:, None]) & (reached - weights < enough[:, None])
    kept |= rank == 0
    reached = (weights * kept).cumsum(-1)
    target = (uniform * reached[:, -1]).long()
    position = (reached <= target[:, None]).sum(-1, keepdim=True)
    return tokens.gather(1, position).squeeze(1)


@dataclass(slots=True, eq=False)
class KvSlot:
    """One sequence in the cache: filled from ``first`` up to ``position``; then ``waiting``."""

    index: int  # in every pass
    first: int
    position: int  # the next one to be written
    waiting: Tensor  # [n, per_position]: embedding ids to be prefilled

    @property
    def filled(self) -> bool:
        """Whether nothing waits. Asked several times a step: a tensor's length takes longer."""
        return not self.waiting.numel()

    @classmethod
    def empty(cls, index: int, position: int, ids: Tensor) -> KvSlot:
        """An empty one, to be prefilled with ``ids`` from ``position`` on."""
        return cls(index, position, position, ids)

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """The next ids, at most ``count``, and their positions; they count as prefilled now."""
        ids, self.waiting = self.waiting[:count], self.waiting[count:]
        positions = torch.arange(self.position, self.position + len(ids))
        self.position += len(ids)
        return ids, positions


def reach(slots: Iterable[KvSlot]) -> int:
    """Places of the smallest pass that has all these slots."""
    return 1 + max(slot.index for slot in slots)


class KvSlots:
    """The indices that are free. What is allocated is released, once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = set(range(count))

    @property
    def free(self) -> int:
        """How many are free."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """The lowest free ones. Raises ``RuntimeError`` where there are too few."""
        if count > len(self._free):
            raise RuntimeError(
                f"{count} KV slots are needed, {len(self._free)} of {self._count} are free"
            )
        taken = sorted(self._free)[:count]
        self._free.difference_update(taken)
        return taken

    def release(self, slots: list[KvSlot]) -> None:
        """Frees them, and empties the list: what was released cannot be released again."""
        self._free.update(slot.index for slot in slots)
        slots.clear()
