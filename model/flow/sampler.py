"""A flow transformer behind the engine's seam: rows in, one fixed-shape pass a step.

Promises that a row's pixels depend on its request alone: its noise comes from its own seed, every
pass has the same shape whatever is in it, and guidance, corrections and the solver act on each row
apart. Rows live on the CPU, in fp32: their arithmetic is the same whatever runs the network, and
previews cost the device nothing. Knows nothing about queues, processes or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.flow.network import FlowTransformer, PromptEncoding
from model.flow.repair import Known, begin
from model.flow.solver import Trajectory
from model.noise import noise_of
from model.passes import FixedPass, Mode
from model.pixels import paste, to_picture
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
        mode: Mode = "eager",
    ) -> None:
        if tile < 2:
            raise ValueError(f"tile is {tile}, guidance needs at least 2")
        self.spec = spec
        self.tile = tile
        self._network = network.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._dtype = network.patch_embed.weight.dtype
        self._shape = (spec.channels, spec.size, spec.size)
        device = network.patch_embed.weight.device
        tokens = torch.zeros(tile, spec.max_prompt_tokens, dtype=torch.long)
        self._reading = FixedPass(network.read, [tokens], device, mode)
        blank = self._reading.launch()
        self._unconditional = self._at(blank, 0)
        self._encoding = PromptEncoding(
            *(part.expand(tile, *part.shape).clone() for part in self._unconditional)
        )
        self._placed = [self._unconditional] * tile  # what lies at each place of it
        noisy_and_time = [torch.zeros(tile, *self._shape), torch.zeros(tile)]
        self._denoising = FixedPass(self._predict, noisy_and_time, device, mode)

    def start(self, request: RowRequest) -> FlowRow:
        """See `ImageModel.start`."""
        tokens = self._tokenizer.padded(request.prompt, self.spec.max_prompt_tokens)
        start = begin(request, self.spec, noise_of(request, self._shape))
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
            self._encode(encode)
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

    def _encode(self, rows: Sequence[FlowRow]) -> None:
        (tokens,) = self._reading.inputs()
        for place, row in enumerate(rows):
            tokens[place] = torch.tensor(row.tokens)
        encodings = self._reading.launch()
        for place, row in enumerate(rows):
            row.encoding = self._at(encodings, place)

    def _predict(self, noisy: Tensor, time: Tensor) -> tuple[Tensor]:
        """A pass: the clean pictures, fp32 [tile, C, H, W]."""
        predicted = self._network.denoise(noisy.to(self._dtype), time, self._encoding)
        return (predicted.float(),)

    def _denoise(self, rows: Sequence[FlowRow]) -> None:
        noisy, time = self._denoising.inputs()
        place = 0
        for row in rows:
            assert row.encoding is not None
            for encoding in (row.encoding, self._unconditional)[: row.evaluations]:
                noisy[place] = row.trajectory.latent
                time[place] = row.trajectory.time
                self._put(place, encoding)
                place += 1
        (predicted,) = self._denoising.fetch()
        place = 0
        for row in rows:
            clean = predicted[place].clone()
            if row.guided:  # classifier-free guidance, Ho and Salimans 2022
                clean = torch.lerp(predicted[place + 1], clean, row.guidance)
            place += row.evaluations
            if row.known is not None:
                clean = row.known.correct(clean)
            row.trajectory.advance(clean)
            row.predicted = clean

    def _put(self, place: int, encoding: PromptEncoding) -> None:
        if self._placed[place] is encoding:  # rows keep their places, mostly
            return
        self._placed[place] = encoding
        for target, source in zip(self._encoding, encoding, strict=True):
            target[place] = source
