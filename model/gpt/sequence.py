"""Text and images as one sequence: what stands at each of its positions, and in which order.

A position holds a few *embedding ids*: rows of one embedding table, which are added up. Row 0 is
nothing. A position of text is the text's token; a position of an image is the codes of one place
and the number of the place that comes next, so that the network need not count. Both orders are
one sequence read from different sides:

    text → image:   <text> t₁ … tₙ <image> c₁ … c₆₄
    image → text:   <image> c₁ … c₆₄ <text> t₁ … tₙ <end>

The special token before an image is the place that comes next, the first, with nothing drawn yet.
Without its text the first order is the beginning of the second: what an image is when nothing is
said of it is learned there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.gpt.config import GptConfig

NOTHING = 0
"""The row of the table that adds nothing. The tokenizer's padding: no text has it as a token."""

END = 0
"""What is predicted where a text ends."""

UNKNOWN = -1
"""A target that does not count, and a code that is not known."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of the table: nothing and text, the token before text, places, and codes by kind."""

    vocabulary: int
    places: int
    codes: int  # at each place
    values: int  # of each code

    @classmethod
    def of(cls, config: GptConfig) -> Layout:
        codec = config.codec
        return cls(config.vocabulary, codec.places, codec.codes, codec.values)

    @property
    def rows(self) -> int:
        """Of the table."""
        return self.first_code + self.codes * self.values

    @property
    def per_position(self) -> int:
        """Embedding ids at each position."""
        return 1 + self.codes

    @property
    def text_token(self) -> int:
        return self.vocabulary

    @property
    def first_place(self) -> int:
        return self.vocabulary + 1

    @property
    def first_code(self) -> int:
        return self.first_place + self.places + 1

    def text(self, tokens: Sequence[int]) -> Tensor:
        """The special token and the text's: [1 + n, per_position]."""
        ids = torch.full((1 + len(tokens), self.per_position), NOTHING)
        ids[0, 0] = self.text_token
        ids[1:, 0] = torch.tensor(tokens, dtype=torch.long)
        return ids

    def no_ids(self) -> Tensor:
        """Nothing: [0, per_position]."""
        return torch.zeros(0, self.per_position, dtype=torch.long)

    def image(self, codes: Tensor) -> Tensor:
        """Codes [..., n ≤ places, codes], from the first place on → [..., 1 + n, per_position].

        `UNKNOWN` ones are nothing.
        """
        *batch, count, _ = codes.shape
        ids = torch.full((*batch, 1 + count, self.per_position), NOTHING)
        ids[..., 0] = self.first_place + torch.arange(1 + count)
        ids[..., 1:, 1:] = self._rows_of(codes)
        return ids

    def place(self, number: Tensor, before: Tensor) -> Tensor:
        """The ids [N, per_position] from which places ``number`` [N] are drawn, each after a
        place with the codes ``before`` [N, codes]. `UNKNOWN` ones are nothing."""
        return torch.cat((self.first_place + number[:, None], self._rows_of(before)), dim=1)

    def _rows_of(self, codes: Tensor) -> Tensor:
        return torch.where(codes == UNKNOWN, NOTHING, codes + self.code_rows())

    def code_rows(self) -> Tensor:
        """[codes]: where the rows of each of a place's codes begin."""
        return self.first_code + self.values * torch.arange(self.codes)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """B whole sequences in either order, of one length L, and what comes after each position."""

    ids: Tensor  # [B, L, per_position]
    first: Tensor  # [B], before it is only padding
    image: Tensor  # [B], where the special token before the image stands
    codes: Tensor  # [B, places, codes], of the image
    text: Tensor  # [B, T + 1], targets after the T + 1 last positions; `UNKNOWN` does not count


def text_to_image(layout: Layout, tokens: Sequence[int], codes: Tensor, longest: int) -> TokenBatch:
    """One sequence [1, …]: at most ``longest`` tokens, then the whole image [places, codes].

    Padded on the left, so that an image always begins at the same position, and on the right to
    the length of the other order.
    """
    text = layout.text(tokens[:longest])
    image = layout.image(codes)
    ids = torch.full((1, longest + layout.places + 2, layout.per_position), NOTHING)
    begin = longest + 1
    ids[0, begin - len(text) : begin] = text
    ids[0, begin:] = image
    return TokenBatch(
        ids,
        torch.tensor([begin - len(text)]),
        torch.tensor([begin]),
        codes[None],
        torch.full((1, longest + 1), UNKNOWN),
    )


def image_to_text(layout: Layout, tokens: Sequence[int], codes: Tensor, longest: int) -> TokenBatch:
    """One sequence [1, …]: the whole image, then at most ``longest`` tokens, then the end.

    Where tokens are cut off, no end is learned.
    """
    end = END if len(tokens) <= longest else UNKNOWN
    tokens = tokens[:longest]
    ids = torch.full((1, longest + layout.places + 2, layout.per_position), NOTHING)
    end_of_image = layout.places + 1
    ids[0, :end_of_image] = layout.image(codes)
    ids[0, end_of_image : end_of_image + 1 + len(tokens)] = layout.text(tokens)
    text = torch.full((1, longest + 1), UNKNOWN)
    text[0, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    text[0, len(tokens)] = end
    begin = torch.zeros(1, dtype=torch.long)
    return TokenBatch(ids, begin, begin, codes[None], text)


def join(batches: Sequence[TokenBatch]) -> TokenBatch:
    """Batches of one length as one."""
    return TokenBatch(
        torch.cat([batch.ids for batch in batches]),
        torch.cat([batch.first for batch in batches]),
        torch.cat([batch.image for batch in batches]),
        torch.cat([batch.codes for batch in batches]),
        torch.cat([batch.text for batch in batches]),
    )


def hide(batch: TokenBatch, hidden: Tensor) -> None:
    """Takes what stands at the ``hidden`` [B, places] out of them; it is still a target."""
    rows, places = hidden.nonzero(as_tuple=True)
    batch.ids[rows, batch.image[rows] + 1 + places, 1:] = NOTHING
