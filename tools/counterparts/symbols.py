"""Symbols, the styles in which there are images of them, and those in which there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.data.emoji import FLUENT, Emoji

OTHER_STYLES = 0.3
"""How often an image is learned in a style that is not to be completed, of those that are."""


@dataclass(frozen=True)
class Symbols:
    """Which image shows a symbol (with its skin tone) in a style."""

    records: Sequence[Emoji]  # in the order of the images
    codepoints: Sequence[str]
    styles: Sequence[str]
    rows: Tensor  # [codepoints, styles]: the image's row, or −1

    @classmethod
    def of(cls, records: Sequence[Emoji]) -> Symbols:
        """Those of one side of the hold-out."""
        codepoints = sorted({record.codepoints for record in records})
        styles = sorted({record.style for record in records})
        rows = torch.full((len(codepoints), len(styles)), -1)
        place = {each: index for index, each in enumerate(codepoints)}
        for row, record in enumerate(records):
            rows[place[record.codepoints], styles.index(record.style)] = row
        return cls(records, codepoints, styles, rows)

    @property
    def fluent(self) -> Tensor:
        """[styles]: whether it is one of Fluent's looks."""
        return torch.tensor([style in FLUENT for style in self.styles])

    @property
    def bases(self) -> Sequence[str]:
        """[codepoints]: each one's base, which its skin tones share."""
        return [self._record(index).base for index in range(len(self.codepoints))]

    def others(self, style: int) -> list[int]:
        """The styles that are not the same drawings as one."""
        same = self.fluent & self.fluent[style]
        same[style] = True
        return torch.nonzero(~same)[:, 0].tolist()

    def pairs(self) -> Tensor:
        """[N, 2]: symbols and styles that can be learned.

        Something of the symbol is to be seen in another style that is not the same drawing.
        """
        return torch.nonzero((self.rows >= 0) & self._seen_elsewhere)

    @property
    def _seen_elsewhere(self) -> Tensor:
        """[codepoints, styles]: whether another style that is not the same drawing shows it."""
        known = self.rows >= 0
        seen = [known[:, self.others(style)].any(1) for style in range(len(self.styles))]
        return torch.stack(seen, dim=1)

    def weights(self, pairs: Tensor, styles: Sequence[str]) -> Tensor:
        """[N]: how often each is learned, in ``styles`` more often than in others. A symbol with
        six skin tones counts as two without."""
        keys = [(self._record(index).base, style) for index, style in pairs.tolist()]
        counts = Counter(keys)
        shares = [1.0 if style in styles else OTHER_STYLES for style in self.styles]
        return torch.tensor([shares[key[1]] * counts[key] ** -0.6 for key in keys])

    def lacking(self, styles: Sequence[str]) -> Tensor:
        """[N, 2]: symbols and those of the styles that have no image of them, but others have.

        Only of symbols that one of these styles has; and of a skin tone only where the style has
        no other of that symbol.
        """
        records = [self._record(index) for index in range(len(self.codepoints))]
        places = {self.styles.index(style) for style in styles}
        shown = {
            (records[index].base, place)
            for index, place in torch.nonzero(self.rows >= 0).tolist()
            if place in places
        }
        bases = {base for base, _ in shown}
        return torch.tensor(
            [
                (index, place)
                for index, place in torch.nonzero((self.rows < 0) & self._seen_elsewhere).tolist()
                if place in places
                and records[index].base in bases
                and ((records[index].base, place) not in shown or not records[index].toned)
            ]
        ).view(-1, 2)

    def _record(self, index: int) -> Emoji:
        return self.records[int(self.rows[index].max())]

    def lacked(self, index: int, style: int) -> Emoji:
        """The record of an image that is not there."""
        return replace(self._record(index), style=self.styles[style], duplicate_of=None)
