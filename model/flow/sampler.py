"""A flow transformer behind the engine's seam: rows in, one fixed-shape pass a step.

Promises that a row's pixels depend on its request alone: its noise comes from its own seed on the
CPU, every pass has the same shape whatever is in it, and guidance and the solver act on each row
apart. Knows nothing about queues, processes or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.flow.network import FlowTransformer, PromptEncoding
from model.flow.repair import Known, begin, paste
from model.flow.solver import Trajectory
from model.pixels import to_picture
from model.protocol import ModelSpec, Picture, RowRequest, Source
from model.tokenizer import PromptTokenizer


@dataclass(slots=True)
class FlowRow:
    """One picture in the making. ``encoding`` comes with its first pass."""

    trajectory: Trajectory
    tokens: list[int]
    guidance: float
    predicted: Tensor  # the clean picture as last predicted, fp32 [C, H, W] on the CPU
    known: Known | None = None  # what predictions are corrected by
    pasted: Source | None = None  # what stays of it outside the mask
    encoding: PromptEncoding | None = None

    @property
    def kind(self) -> Literal["encode", "denoise"]:
        return "encode" if self.encoding is None else "denoise"

    @property
    def guided(self) -> bool:
        """Whether a second, unconditional evaluation is needed."""
        return self.guidance != 1.0 and any(self.tokens)

    @property
    def evaluations(self) -> int:
        return 2 if self.kind == "denoise" and self.guided else 1

    @property
    def step(self) -> int:
        return self.trajectory.step

    @property
    def steps(self) -> int:
        return self.trajectory.steps

    @property
    def done(self) -> bool:
        return self.trajectory.done


class FlowSampler:
    """An `ImageModel`. The network must be in its serving dtype, on its device."""

    def __init__(
        self,
        spec: ModelSpec,
        network: FlowTransformer,
        tokenizer: PromptTokenizer,
        tile: int,
    ) -> None:
        if tile < 2:
            raise ValueError(f"tile is {tile}, guidance needs at least 2")
        self.spec = spec
        self.tile = tile
        self._network = network.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._device = network.patch_embed.weight.device
        self._dtype = network.patch_embed.weight.dtype
        shape = (spec.channels, spec.size, spec.size)
        self._shape = shape
        self._tokens = torch.zeros(tile, spec.max_prompt_tokens, dtype=torch.long)
        self._noisy = torch.zeros(tile, *shape)
        self._time = torch.zeros(tile)
        blank = self._encode([[0] * spec.max_prompt_tokens])
        self._encoding = PromptEncoding(*(part.expand_as(part).clone() for part in blank))
        self._unconditional = self._at(blank, 0)

    def start(self, request: RowRequest) -> FlowRow:
        """See `ImageModel.start`."""
        tokens = self._tokenizer.padded(request.prompt, self.spec.max_prompt_tokens)
        generator = torch.Generator().manual_seed(request.seed)
        noise = torch.randn(self._shape, generator=generator)
        start = begin(request, self.spec, noise)
        return FlowRow(
            trajectory=Trajectory(start.latent, request.steps, request.solver, start.time),
            tokens=tokens,
            guidance=request.guidance,
            predicted=start.latent,
            known=start.known,
            pasted=request.source if request.operation == "inpaint" else None,
        )

    @torch.inference_mode()
    def step(self, rows: Sequence[FlowRow]) -> None:
        """See `ImageModel.step`."""
        encode = [row for row in rows if row.kind == "encode"]
        denoise = [row for row in rows if row.kind == "denoise"]
        for kind in (encode, denoise):
            needed = sum(row.evaluations for row in kind)
            if needed > self.tile:
                raise ValueError(f"{needed} evaluations do not fit a tile of {self.tile}")
        if encode:
            encodings = self._encode([row.tokens for row in encode])
            for place, row in enumerate(encode):
                row.encoding = self._at(encodings, place)
        if denoise:
            self._denoise(denoise)

    def result(self, row: FlowRow) -> Picture:
        """See `ImageModel.result`."""
        picture = to_picture(row.predicted)
        return picture if row.pasted is None else paste(row.pasted, picture)

    def release(self, row: FlowRow) -> None:
        """Rows hold nothing but their own memory."""

    @staticmethod
    def _at(encodings: PromptEncoding, place: int) -> PromptEncoding:
        return PromptEncoding(*(part[place].clone() for part in encodings))

    @torch.inference_mode()
    def _encode(self, prompts: Sequence[list[int]]) -> PromptEncoding:
        for place, tokens in enumerate(prompts):
            self._tokens[place] = torch.tensor(tokens)
        return self._network.read(self._tokens.to(self._device))

    def _denoise(self, rows: Sequence[FlowRow]) -> None:
        places: list[tuple[int, int | None]] = []
        place = 0
        for row in rows:
            assert row.encoding is not None
            self._put(place, row, row.encoding)
            if row.guided:
                self._put(place + 1, row, self._unconditional)
            places.append((place, place + 1 if row.guided else None))
            place += row.evaluations
        predicted = self._network.denoise(
            self._noisy.to(self._device, self._dtype), self._time.to(self._device), self._encoding
        )
        predicted = predicted.float().cpu()
        for row, (conditional, unconditional) in zip(rows, places, strict=True):
            clean = predicted[conditional].clone()
            if unconditional is not None:  # classifier-free guidance, Ho and Salimans 2022
                clean = torch.lerp(predicted[unconditional], clean, row.guidance)
            if row.known is not None:
                clean = row.known.correct(clean)
            row.trajectory.advance(clean)
            row.predicted = clean

    def _put(self, place: int, row: FlowRow, encoding: PromptEncoding) -> None:
        self._noisy[place] = row.trajectory.latent
        self._time[place] = row.trajectory.time
        for target, source in zip(self._encoding, encoding, strict=True):
            target[place] = source
