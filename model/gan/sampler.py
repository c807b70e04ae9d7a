"""A generator behind the engine's seam: one step, and the row is an image.

A row's pixels depend on its request alone: its latent comes from its own seed, and every pass has
the bits of one shape whatever is in it. The prompt is encoded in the same pass that draws. Without
a prompt it draws one of the captions that it was trained on, by seed; a walk without a prompt goes
from one of them to the next, and what lies between their summaries lies between their images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.flow.sampler import PromptInputs
from model.gan.network import Generator
from model.protocol import Pass
from model.request import ImageRequest, Picture
from model.runtime.fixed_pass import FixedPass, Mode, by_kind, rungs_in
from model.runtime.noise import choice_of, noise_of
from model.runtime.pixels import blank, to_picture
from model.runtime.smoothing import without_grain
from model.spec import ModelSpec
from model.tokenizer import PromptTokenizer

Text = Sequence[int]
"""Tokens of a prompt, padded."""

CAPTIONS = 4
"""Captions that a walk without a prompt passes: the seed's and those of the next ones."""


@dataclass(frozen=True, slots=True)
class DrawInputs:
    """Images to be drawn."""

    latents: Tensor  # [tile, latent], fewer rows in a smaller pass, as in all that follows
    tokens: Tensor  # [tile, T], padded
    shares: Tensor  # [tile], 0…1: how far each has gone to the next caption


@dataclass(slots=True, eq=False)
class GanRow:
    """One image in the making."""

    prompt: Text
    latent: Tensor  # [latent], fp32
    drawn: Tensor  # fp32 [C, H, W] on the CPU; nothing before the step
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
        grain: float = 0.0,
    ) -> None:
        """``grain`` is what images are smoothed by, see `model.runtime.smoothing`."""
        if tile < 1:
            raise ValueError(f"tile is {tile}, a pass needs at least 1")
        self.spec = spec
        self.tile = tile
        self.slots = tile
        self.rungs = rungs = rungs_in(mode, tile)
        self._network = network.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._latent = network.config.latent
        self._grain = grain
        self._captions = tokenizer.usable(captions, spec.max_prompt_tokens)
        weight = network.patch_out.weight
        self._dtype = weight.dtype
        # Nothing, on white where there is no transparency.
        self._blank = torch.full(
            (spec.channels, spec.sizes.height, spec.sizes.width), blank(spec.channels)
        )
        tokens = torch.zeros(tile, spec.max_prompt_tokens, dtype=torch.long)
        self._reading = FixedPass(self._read, PromptInputs(tokens), weight.device, mode, rungs)
        self._towards = self._reading.launch(tile)[0].clone()
        inputs = DrawInputs(torch.zeros(tile, self._latent), tokens.clone(), torch.zeros(tile))
        self._drawing = FixedPass(self._draw, inputs, weight.device, mode, rungs)

    def cost(self, request: ImageRequest) -> int:
        """See `ImageModel.cost`."""
        return 1

    def capacity(self, kind: str) -> int:
        """See `ImageModel.capacity`."""
        return self.tile

    def start(self, request: ImageRequest) -> GanRow:
        """See `ImageModel.start`."""
        self.spec.check(request)
        row = GanRow(
            prompt=self._padded(request.prompt),
            latent=noise_of(request, (self._latent,)),
            drawn=self._blank,
        )
        if not any(row.prompt) and self._captions:
            phase = request.phase if request.operation == "walk" else 0.0
            row.share, stop = math.modf(phase * CAPTIONS)
            row.prompt = self._caption(request.seed + int(stop) % CAPTIONS)
            if row.share:
                row.towards = self._caption(request.seed + int(stop + 1) % CAPTIONS)
        return row

    @torch.inference_mode()
    def step(self, rows: Sequence[GanRow]) -> list[Pass]:
        """See `ImageModel.step`."""
        by_kind(self, rows)
        count, passes = len(rows), []
        inputs = self._drawing.inputs()
        for index, row in enumerate(rows):
            inputs.latents[index] = row.latent
            inputs.tokens[index] = torch.tensor(row.prompt)
            inputs.shares[index] = row.share
        if any(row.share for row in rows):
            others = self._reading.inputs().tokens
            for index, row in enumerate(rows):
                others[index] = torch.tensor(row.towards or row.prompt)
            (towards,) = self._reading.launch(count)
            self._towards[: len(towards)] = towards
            passes.append(Pass("read", count, self._reading.size))
        (drawn,) = self._drawing.fetch(count)
        for index, row in enumerate(rows):
            row.drawn = without_grain(drawn[index].clone(), self._grain)
            row.step = 1
        return [*passes, Pass("draw", count, self._drawing.size)]

    def preview(self, row: GanRow) -> None:
        """Nothing to do: there is nothing to see before the only step."""

    def result(self, row: GanRow) -> Picture:
        """See `ImageModel.result`."""
        return to_picture(row.drawn)

    def release(self, row: GanRow) -> None:
        """Rows hold nothing but their own memory."""

    def _padded(self, prompt: str) -> Text:
        return self._tokenizer.padded(prompt, self.spec.max_prompt_tokens)

    def _caption(self, seed: int) -> Text:
        """One that it was trained on: always the same for a seed."""
        return self._padded(choice_of(self._captions, seed))

    def _read(self, inputs: PromptInputs) -> tuple[Tensor]:
        """A pass: the summaries of what rows are on their way to."""
        return (self._network.summarize(inputs.tokens),)

    def _draw(self, inputs: DrawInputs) -> tuple[Tensor]:
        """A pass: images, fp32 [tile, C, H, W]."""
        summary = self._network.summarize(inputs.tokens)
        share = inputs.shares.to(self._dtype)[:, None, None]
        towards = self._towards[: len(share)]
        summary = torch.where(share == 0, summary, torch.lerp(summary, towards, share))
        drawn = self._network.draw(inputs.latents.to(self._dtype), summary)
        return (drawn.float().contiguous(),)
