"""A generator behind the engine's seam: one step, and the row is a picture.

Promises that a row's pixels depend on its request alone: its latent comes from its own seed, and
every pass has the same shape whatever is in it. The prompt is read in the same pass that draws.
Knows nothing about queues, processes or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.gan.network import Generator
from model.noise import noise_of
from model.passes import FixedPass, Mode
from model.pixels import to_picture
from model.protocol import ModelSpec, Picture, RowRequest
from model.tokenizer import PromptTokenizer


@dataclass(slots=True, eq=False)
class GanRow:
    """One picture in the making."""

    tokens: list[int]
    latent: Tensor  # [latent], fp32
    made: Tensor  # fp32 [C, H, W] on the CPU; nothing before the step
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
        weight = network.patch_out.weight
        self._dtype = weight.dtype
        # Nothing, on white where there is no transparency.
        self._blank = torch.full(
            (spec.channels, spec.size, spec.size), -1.0 if spec.channels == 4 else 1.0
        )
        inputs = [
            torch.zeros(tile, self._latent),
            torch.zeros(tile, spec.max_prompt_tokens, dtype=torch.long),
        ]
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
        return GanRow(
            tokens=self._tokenizer.padded(request.prompt, self.spec.max_prompt_tokens),
            latent=noise_of(request, (self._latent,)),
            made=self._blank,
        )

    @torch.inference_mode()
    def step(self, rows: Sequence[GanRow]) -> None:
        """See `ImageModel.step`."""
        if len(rows) > self.tile:
            raise ValueError(f"{len(rows)} evaluations do not fit a tile of {self.tile}")
        latents, tokens = self._drawing.inputs()
        for place, row in enumerate(rows):
            latents[place] = row.latent
            tokens[place] = torch.tensor(row.tokens)
        (made,) = self._drawing.fetch()
        for place, row in enumerate(rows):
            row.made = made[place].clone()
            row.step = 1

    def result(self, row: GanRow) -> Picture:
        """See `ImageModel.result`."""
        return to_picture(row.made)

    def release(self, row: GanRow) -> None:
        """Rows hold nothing but their own memory."""

    def _draw(self, latents: Tensor, tokens: Tensor) -> tuple[Tensor]:
        """A pass: pictures, fp32 [tile, C, H, W]."""
        made: Tensor = self._network(latents.to(self._dtype), tokens)
        return (made.float(),)
