"""Text and pictures as one sequence: what stands at each of its positions, and in which order.

A position holds a *bag*: numbers of rows of one embedding table, which are added up. Row 0 is
nothing. A position of text is the text's token; a position of a picture is the codes of one place
and the number of the place that comes next, so that the network need not count. Both orders are
one sequence read from different sides:

    text → picture:   <text> t₁ … tₙ <picture> c₁ … c₆₄
    picture → text:   <picture> c₁ … c₆₄ <text> t₁ … tₙ <end>

The mark before a picture is the place that comes next, the first, with nothing drawn yet. Without
its text the first order is the beginning of the second: what a picture is when nothing is said of
it is learned there. Knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import GptConfig

NOTHING = 0
"""The row of the table that adds nothing. The tokenizer's padding: no text has it as a token."""

END = 0
"""What is predicted where a text ends."""

UNKNOWN = -1
"""A target that does not count, and a code that is not known."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of the table: nothing and text, the mark of text, places, and codes by kind."""

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
    def bag(self) -> int:
        """Numbers in each bag."""
        return 1 + self.codes

    @property
    def text_mark(self) -> int:
        return self.vocabulary

    @property
    def first_place(self) -> int:
        return self.vocabulary + 1

    @property
    def first_code(self) -> int:
        return self.first_place + self.places + 1

    def text(self, tokens: Sequence[int]) -> Tensor:
        """The mark and the tokens: [1 + n, bag]."""
        bags = torch.full((1 + len(tokens), self.bag), NOTHING)
        bags[0, 0] = self.text_mark
        bags[1:, 0] = torch.tensor(tokens, dtype=torch.long)
        return bags

    def picture(self, codes: Tensor) -> Tensor:
        """Codes [..., n ≤ places, codes], from the first place on → [..., 1 + n, bag].

        `UNKNOWN` ones are nothing.
        """
        *batch, count, _ = codes.shape
        bags = torch.full((*batch, 1 + count, self.bag), NOTHING)
        bags[..., 0] = self.first_place + torch.arange(1 + count)
        bags[..., 1:, 1:] = self._rows_of(codes)
        return bags

    def place(self, number: Tensor, before: Tensor) -> Tensor:
        """The bags [N, bag] from which places ``number`` [N] are drawn, each after a place with the
        codes ``before`` [N, codes]. `UNKNOWN` ones are nothing."""
        return torch.cat((self.first_place + number[:, None], self._rows_of(before)), dim=1)

    def _rows_of(self, codes: Tensor) -> Tensor:
        return torch.where(codes == UNKNOWN, NOTHING, codes + self.code_rows())

    def code_rows(self) -> Tensor:
        """[codes]: where the rows of each of a place's codes begin."""
        return self.first_code + self.values * torch.arange(self.codes)


@dataclass(frozen=True, slots=True)
class Batch:
    """B whole sequences in either order, of one length L, and what comes after each position."""

    bags: Tensor  # [B, L, bag]
    first: Tensor  # [B], before it is only padding
    picture: Tensor  # [B], where the mark of the picture stands
    codes: Tensor  # [B, places, codes], of the picture
    text: Tensor  # [B, T + 1], targets after the T + 1 last positions; `UNKNOWN` does not count


def text_to_picture(layout: Layout, tokens: Sequence[int], codes: Tensor, longest: int) -> Batch:
    """One sequence [1, …]: at most ``longest`` tokens, then the whole picture [places, codes].

    Padded on the left, so that a picture always begins at the same position, and on the right to
    the length of the other order.
    """
    text = layout.text(tokens[:longest])
    picture = layout.picture(codes)
    bags = torch.full((1, longest + layout.places + 2, layout.bag), NOTHING)
    begin = longest + 1
    bags[0, begin - len(text) : begin] = text
    bags[0, begin:] = picture
    return Batch(
        bags,
        torch.tensor([begin - len(text)]),
        torch.tensor([begin]),
        codes[None],
        torch.full((1, longest + 1), UNKNOWN),
    )


def picture_to_text(layout: Layout, tokens: Sequence[int], codes: Tensor, longest: int) -> Batch:
    """One sequence [1, …]: the whole picture, then at most ``longest`` tokens, then the end.

    Where tokens are cut off, no end is learned.
    """
    end = END if len(tokens) <= longest else UNKNOWN
    tokens = tokens[:longest]
    bags = torch.full((1, longest + layout.places + 2, layout.bag), NOTHING)
    mark = layout.places + 1
    bags[0, :mark] = layout.picture(codes)
    bags[0, mark : mark + 1 + len(tokens)] = layout.text(tokens)
    text = torch.full((1, longest + 1), UNKNOWN)
    text[0, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    text[0, len(tokens)] = end
    begin = torch.zeros(1, dtype=torch.long)
    return Batch(bags, begin, begin, codes[None], text)


def together(batches: Sequence[Batch]) -> Batch:
    """Batches of one length as one."""
    return Batch(
        torch.cat([one.bags for one in batches]),
        torch.cat([one.first for one in batches]),
        torch.cat([one.picture for one in batches]),
        torch.cat([one.codes for one in batches]),
        torch.cat([one.text for one in batches]),
    )


def hide(batch: Batch, hidden: Tensor) -> None:
    """Takes what stands at the ``hidden`` [B, places] out of the bags; it is still a target."""
    rows, places = hidden.nonzero(as_tuple=True)
    batch.bags[rows, batch.picture[rows] + 1 + places, 1:] = NOTHING
