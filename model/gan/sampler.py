"""A generator behind the engine's seam: one step, and the row is a picture.

Promises that a row's pixels depend on its request alone: its latent comes from its own seed, and
every pass has the same shape whatever is in it. The prompt is read in the same pass that draws.
Without a prompt it draws one of the captions that it learned, by seed; a walk without a prompt goes
from one of them to the next, and what lies between their summaries lies between their pictures.
Knows nothing about queues, processes or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.gan.network import Generator
from model.noise import noise_of, one_of
from model.passes import FixedPass, Mode
from model.pixels import blank, to_picture
from model.protocol import SEEDS, ModelSpec, Picture, RowRequest
from model.tokenizer import PromptTokenizer

Text = Sequence[int]
"""Tokens of a prompt, padded."""

WALKED = 4
"""Captions that a walk without a prompt comes by: the seed's and those of the next ones."""


@dataclass(slots=True, eq=False)
class GanRow:
    """One picture in the making."""

    prompt: Text
    latent: Tensor  # [latent], fp32
    made: Tensor  # fp32 [C, H, W] on the CPU; nothing before the step
    towards: Text | None = None  # what another prompt's share of the summary is of
    share: float = 0.0  # 0…1
    step: int = 0
    steps: int = 1

    @property
    def kind(self) -> Literal["draw"]:
        return "draw"

    @property
    def evaluations(self) -> int:
        return 1

    @property
    def done(self) -> bool:
        return self.step == self.steps


class GanSampler:
    """An `ImageModel`. The network must be in its serving dtype, on its device."""

    def __init__(
        self,
        spec: ModelSpec,
        network: Generator,
        tokenizer: PromptTokenizer,
        captions: Sequence[str],
        tile: int,
        mode: Mode = "eager",
    ) -> None:
        if tile < 1:
            raise ValueError(f"tile is {tile}, a pass needs at least 1")
        self.spec = spec
        self.tile = tile
        self._network = network.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._latent = network.config.latent
        self._learned = [
            caption
            for caption in captions
            if 0 < len(tokenizer.tokens(caption)) <= spec.max_prompt_tokens
        ]
        weight = network.patch_out.weight
        self._dtype = weight.dtype
        # Nothing, on white where there is no transparency.
        self._blank = torch.full((spec.channels, spec.size, spec.size), blank(spec.channels))
        tokens = torch.zeros(tile, spec.max_prompt_tokens, dtype=torch.long)
        self._reading = FixedPass(self._read, [tokens], weight.device, mode)
        self._towards = self._reading.launch()[0].clone()
        inputs = [torch.zeros(tile, self._latent), tokens.clone(), torch.zeros(tile)]
        self._drawing = FixedPass(self._draw, inputs, weight.device, mode)

    def start(self, request: RowRequest) -> GanRow:
        """See `ImageModel.start`. Raises ``ValueError`` for what takes more than a prompt."""
        if request.operation not in ("generate", "walk") or request.source is not None:
            raise ValueError(f"{self.spec.id} cannot {request.operation} this")
        if request.steps != 1 or request.guidance != 1:
            raise ValueError(
                f"{request.steps} steps with guidance {request.guidance:g} were asked for; "
                f"{self.spec.id} draws in 1 step, and has no guidance (1)"
            )
        row = GanRow(
            prompt=self._padded(request.prompt),
            latent=noise_of(request, (self._latent,)),
            made=self._blank,
        )
        if not any(row.prompt) and self._learned:
            turn = request.turn if request.operation == "walk" else 0.0
            row.share, stop = math.modf(turn * WALKED)
            row.prompt = self._caption(request.seed + int(stop) % WALKED)
            if row.share:
                row.towards = self._caption(request.seed + int(stop + 1) % WALKED)
        return row

    @torch.inference_mode()
    def step(self, rows: Sequence[GanRow]) -> None:
        """See `ImageModel.step`."""
        if len(rows) > self.tile:
            raise ValueError(f"{len(rows)} evaluations do not fit a tile of {self.tile}")
        latents, tokens, shares = self._drawing.inputs()
        for place, row in enumerate(rows):
            latents[place] = row.latent
            tokens[place] = torch.tensor(row.prompt)
            shares[place] = row.share
        if any(row.share for row in rows):
            (others,) = self._reading.inputs()
            for place, row in enumerate(rows):
                others[place] = torch.tensor(row.towards or row.prompt)
            self._towards.copy_(self._reading.launch()[0])
        (made,) = self._drawing.fetch()
        for place, row in enumerate(rows):
            row.made = made[place].clone()
            row.step = 1

    def result(self, row: GanRow) -> Picture:
        """See `ImageModel.result`."""
        return to_picture(row.made)

    def release(self, row: GanRow) -> None:
        """Rows hold nothing but their own memory."""

    def _padded(self, prompt: str) -> Text:
        return self._tokenizer.padded(prompt, self.spec.max_prompt_tokens)

    def _caption(self, seed: int) -> Text:
        """One that it learned: always the same for a seed."""
        return self._padded(one_of(self._learned, torch.Generator().manual_seed(seed % SEEDS)))

    def _read(self, tokens: Tensor) -> tuple[Tensor]:
        """A pass: the summaries of what rows are on their way to."""
        return (self._network.summarize(tokens),)

    def _draw(self, latents: Tensor, tokens: Tensor, shares: Tensor) -> tuple[Tensor]:
        """A pass: pictures, fp32 [tile, C, H, W]."""
        summary, share = self._network.summarize(tokens), shares.to(self._dtype)[:, None, None]
        summary = torch.where(share == 0, summary, torch.lerp(summary, self._towards, share))
        made = self._network.draw(latents.to(self._dtype), summary)
        return (made.float(),)
