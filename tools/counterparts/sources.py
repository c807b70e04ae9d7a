"""What the network is shown and what it is to draw, distorted alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.counterparts.guess import Guesses
from tools.counterparts.symbols import Symbols

CHANNELS: Literal[4] = 4

GUESSED_SIZE = 32
"""Pixels along a side, of what is guessed."""

FLUENT_HIDDEN = 0.8
"""How often other looks of the same drawing are not shown: where one is held out, all are."""

MOST_HIDDEN = 0.5
"""Of the other images each is hidden with a chance between none and this."""

MOVED, RECOLOURED = 0.5, 0.2
"""Shares of the images that are distorted, and that have their colours exchanged."""

DISTORTIONS = 6
"""Numbers that say how an image was distorted, the first of them whether it is mirrored."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the network is to draw, and what it is shown for it."""

    shown: Tensor  # [B, styles + 1, C, H, W] in 0…1, zeros where nothing is shown; last the guess
    mask: Tensor  # [B, styles + 1]: what is shown
    style: Tensor  # [B]
    distortion: Tensor  # [B, 6], zeros for none


class Sources:
    """The images of symbols, on a device, and guesses at them."""

    def __init__(self, images: Tensor, symbols: Symbols, guesses: Guesses, shown_size: int) -> None:
        """``images`` are bytes [N, C, H, W], on the device, and shown in ``shown_size``."""
        device = images.device
        self.images, self._guesses = images, guesses
        self._small = reduced(images, shown_size)
        self._rows = symbols.rows.to(device)
        self._fluent = symbols.fluent.to(device)

    def asked(self, pairs: Tensor) -> Asked:
        """What there is to be shown for pairs [B, 2]."""
        rows = self._others(pairs)
        return self._asked(pairs, rows, rows >= 0)

    def _others(self, pairs: Tensor) -> Tensor:
        """The rows of the symbols' images in all styles but those of the pairs: [B, styles]."""
        index, style = pairs.unbind(1)
        return self._rows[index].scatter(1, style[:, None], -1)

    def _asked(self, pairs: Tensor, rows: Tensor, mask: Tensor) -> Asked:
        shown = self._small[rows.clamp(min=0)].float() / 255 * mask[:, :, None, None, None]
        guess = self._guesses.of(pairs, shown.shape[-1])
        return Asked(
            torch.cat((shown, guess[:, None]), dim=1),
            F.pad(mask, (0, 1), value=True),
            pairs[:, 1],
            torch.zeros(len(rows), DISTORTIONS, device=rows.device),
        )

    def lesson(self, pairs: Tensor) -> tuple[Asked, Tensor]:
        """Some of it, distorted, and what is to be drawn: [B, C, H, W] in −1…1."""
        index, style = pairs.unbind(1)
        target = self.images[self._rows[index, style]].float() / 255
        rows = self._others(pairs)
        asked = self._asked(pairs, rows, self._hidden(rows >= 0, style))
        recolouring, numbers = _recolouring(len(pairs), pairs.device)
        moves, more = _moves(len(pairs), pairs.device)
        shown = _moved(asked.shown.flatten(1, 2), moves).view_as(asked.shown)
        shown = torch.cat((_recoloured(shown[:, :, :3], recolouring), shown[:, :, 3:]), dim=2)
        target = _moved(target, moves)
        colours = _recoloured(target[:, None, :3], recolouring)[:, 0]
        target = torch.cat((colours, target[:, 3:]), dim=1)
        distortion = torch.cat((more, numbers), dim=1)
        return replace(asked, shown=shown, distortion=distortion), target * 2 - 1

    def _hidden(self, shown: Tensor, style: Tensor) -> Tensor:
        """``shown`` [B, styles], of which some is hidden, but never all."""
        count, device = len(shown), shown.device
        same = self._fluent[style] & (torch.rand(count, device=device) < FLUENT_HIDDEN)
        left = shown & ~(same[:, None] & self._fluent)
        left = torch.where(left.any(1, keepdim=True), left, shown)
        chance = torch.rand(count, 1, device=device) * MOST_HIDDEN
        fewer = left & (torch.rand(left.shape, device=device) >= chance)
        return torch.where(fewer.any(1, keepdim=True), fewer, left)


def reduced(images: Tensor, size: int) -> Tensor:
    """Bytes [N, C, H, W] → bytes [N, C, size, size]."""
    factor = images.shape[-1] // size
    if factor == 1:
        return images
    means = (F.avg_pool2d(some.float(), factor).round().byte() for some in images.split(1024))
    return torch.cat(list(means))


def _recolouring(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Orders of colours as matrices [count, 3, 3], most of them the usual one, and [count, 1]."""
    order = torch.rand(count, 3, device=device).argsort(1)
    other = torch.rand(count, 1, device=device) < RECOLOURED
    usual = torch.arange(3, device=device)
    order = torch.where(other, order, usual)
    changed = (order != usual).any(1, keepdim=True)
    return torch.eye(3, device=device)[order], changed.float()


def _recoloured(colours: Tensor, orders: Tensor) -> Tensor:
    """colours [B, n, 3, H, W], orders [B, 3, 3]."""
    return torch.einsum("bkc,bnchw->bnkhw", orders, colours)


def _moves(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mirroring, turning, moving and scaling as matrices [count, 2, 3], and what it is, [count, 5].

    Mirrored is half of them, the rest ``MOVED``.
    """

    def random(deviation: float) -> Tensor:
        return torch.randn(count, device=device) * deviation * changed

    changed = (torch.rand(count, device=device) < MOVED).float()
    turn, grow, stretch, x, y = (random(each) for each in (0.12, 0.12, 0.06, 0.06, 0.06))
    scale = grow.exp()
    mirrored = (torch.rand(count, device=device) < 0.5).float()
    mirror = 1 - 2 * mirrored
    cosine, sine = turn.cos() * scale, turn.sin() * scale
    rows = (
        torch.stack((mirror * cosine * stretch.exp(), -sine, x), dim=1),
        torch.stack((mirror * sine * stretch.exp(), cosine, y), dim=1),
    )
    numbers = torch.stack((mirrored, 8 * turn, 8 * grow, 16 * x, 16 * y), dim=1)
    return torch.stack(rows, dim=1), numbers


def _moved(images: Tensor, moves: Tensor) -> Tensor:
    """images [B, C, H, W], moves [B, 2, 3]."""
    grid = F.affine_grid(moves, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
