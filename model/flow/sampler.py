"""A flow transformer behind the engine's seam: rows in, one fixed-shape pass a step.

A row's pixels depend on its request alone: its noise comes from its own seed, every pass has the
bits of one shape whatever is in it, and guidance, corrections and the solver act on each row apart.
Rows live on the CPU, in fp32: their arithmetic is the same whatever runs the network, and previews
cost the device nothing. A row whose image is larger than the network's is seen in windows, a few in
each pass; it advances once all of them were seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from cachetools import LRUCache
from torch import Tensor

from model.flow.blending import Windows
from model.flow.config import IN_WINDOWS, SamplingConfig, cost, of_window
from model.flow.inpainting import Beginning, Known, begin
from model.flow.network import FlowTransformer, PromptEncoding
from model.flow.solver import Trajectory
from model.protocol import Pass
from model.request import ImageRequest, Picture, Source
from model.runtime.fixed_pass import FixedPass, Mode, by_kind, rungs_in
from model.runtime.noise import choice_of, noise_of
from model.runtime.pixels import paste, to_picture
from model.runtime.smoothing import without_grain
from model.spec import ModelSpec
from model.tokenizer import PromptTokenizer

REMEMBERED = 256
"""Prompts whose encodings are kept, 35 KB each in the shipped model."""


@dataclass(frozen=True, slots=True)
class PromptInputs:
    """Prompts to be encoded."""

    tokens: Tensor  # [tile, T], padded; fewer rows in a smaller pass


@dataclass(frozen=True, slots=True)
class DenoiseInputs:
    """Latents to be denoised; the prompts' encodings lie on the device already."""

    noisy: Tensor  # [tile, C, H, W]
    time: Tensor  # [tile]


@dataclass(slots=True)
class FlowRow:
    """One image in the making. ``encoding`` comes with its first pass."""

    trajectory: Trajectory
    windows: Windows  # of the image, one where the network draws it whole
    tokens: tuple[int, ...]
    guidance: float
    predicted: Tensor  # the clean image as last predicted, fp32 [C, H, W] on the CPU
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
        return len(self.windows.next) * (2 if self.guided else 1) if self.kind == "denoise" else 1

    @property
    def step(self) -> int:
        """Passes done of those that end a step: of an image in windows, one step is several."""
        passed = self.windows.passed if self.trajectory.completes else 0
        return self.trajectory.step * self.windows.passes + passed

    @property
    def steps(self) -> int:
        return self.trajectory.steps * self.windows.passes

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
        captions: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
    ) -> None:
        """An image that is asked for by nothing is of one of the ``captions``, where there are.
        ``sampling`` says how times are spaced and images smoothed; its defaults are the spec's."""
        if tile < 2:
            raise ValueError(f"tile is {tile}, guidance needs at least 2")
        self.spec = spec
        self.tile = tile
        self.slots = 2 * tile  # a row is small
        self.rungs = rungs = rungs_in(mode, tile)
        self._network = network.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._sampling = sampling or SamplingConfig()
        self._captions = tokenizer.usable(captions, spec.max_prompt_tokens)
        self._dtype = network.patch_embed.weight.dtype
        device = network.patch_embed.weight.device
        tokens = torch.zeros(tile, spec.max_prompt_tokens, dtype=torch.long)
        self._encoding = FixedPass(self._read, PromptInputs(tokens), device, mode, rungs)
        blank = self._encoding.launch(tile)
        self._unconditional = self._at(blank, 0)
        self._prompts = PromptEncoding(
            *(part.expand(tile, *part.shape).clone() for part in self._unconditional)
        )
        self._placed = [self._unconditional] * tile  # what lies at each position of it
        # By tokens, and by `Rungs.uses`.
        self._remembered: LRUCache[tuple[int, tuple[int, ...]], PromptEncoding] = LRUCache(
            REMEMBERED
        )
        shape = (spec.channels, spec.sizes.height, spec.sizes.width)
        inputs = DenoiseInputs(torch.zeros(tile, *shape), torch.zeros(tile))
        self._denoising = FixedPass(self._predict, inputs, device, mode, rungs)

    def cost(self, request: ImageRequest) -> int:
        """See `ImageModel.cost`."""
        return cost(request, self.spec.sizes.native)

    def capacity(self, kind: str) -> int:
        """See `ImageModel.capacity`."""
        return self.tile

    def start(self, request: ImageRequest) -> FlowRow:
        """See `ImageModel.start`."""
        self.spec.check(request)
        prompt = request.prompt
        captioned = not prompt.strip() and request.operation == "generate" and self._captions
        if captioned:
            prompt = choice_of(self._captions, request.seed)
        tokens = tuple(self._tokenizer.padded(prompt, self.spec.max_prompt_tokens))
        shape = (self.spec.channels, request.height, request.width)
        size, native = (request.width, request.height), self.spec.sizes.native
        start = begin(request, noise_of(request, shape), larger=size != native)
        # What is known corrects every prediction: even steps make more of that.
        spacing = self._sampling.spacing if start.known is None else 1.0
        steps, order = int(request.value("steps")), int(request.value("solver_order"))
        return FlowRow(
            trajectory=Trajectory(start.latent, steps, order, start.time, spacing),
            windows=Windows(size, native, IN_WINDOWS // of_window(request)),
            tokens=tokens,
            guidance=1.0 if captioned else request.value("guidance"),
            predicted=_unseen(start),
            known=start.known,
            pasted=request.source if request.operation == "inpaint" else None,
        )

    @torch.inference_mode()
    def step(self, rows: Sequence[FlowRow]) -> list[Pass]:
        """See `ImageModel.step`. A row whose prompt is read is denoised in the same step where the
        pass has room, or every row that joins would leave its place in one pass empty. A prompt
        is read once for all rows that have it, and not at all where it is remembered.
        """
        kinds = by_kind(self, rows)
        reading, denoised = kinds.get("encode", []), kinds.get("denoise", [])
        passes = self._encode(reading)
        room = self.tile - sum(row.evaluations for row in denoised)
        for row in reading:
            if row.evaluations <= room:
                denoised.append(row)
                room -= row.evaluations
        return [*passes, self._denoise(denoised)] if denoised else passes

    def preview(self, row: FlowRow) -> None:
        """Nothing to do: a row holds the image as last predicted."""

    def result(self, row: FlowRow) -> Picture:
        """See `ImageModel.result`."""
        picture = to_picture(row.predicted)
        return picture if row.pasted is None else paste(row.pasted, picture)

    def release(self, row: FlowRow) -> None:
        """Rows hold nothing but their own memory."""

    @staticmethod
    def _at(encodings: PromptEncoding, index: int) -> PromptEncoding:
        return PromptEncoding(*(part[index].clone() for part in encodings))

    def _encode(self, rows: Sequence[FlowRow]) -> list[Pass]:
        """Gives rows their prompts' encodings: remembered ones, or those of a pass."""
        uses = self.rungs.uses
        found = {row.tokens: self._remembered.get((uses, row.tokens)) for row in rows}
        unknown = [prompt for prompt, encoding in found.items() if encoding is None]
        if unknown:
            tokens = self._encoding.inputs().tokens
            for index, prompt in enumerate(unknown):
                tokens[index] = torch.tensor(prompt)
            encodings = self._encoding.launch(len(unknown))
            for index, prompt in enumerate(unknown):
                found[prompt] = self._remembered[uses, prompt] = self._at(encodings, index)
        for row in rows:
            row.encoding = found[row.tokens]
        return [Pass("encode", len(unknown), self._encoding.size)] if unknown else []

    def _read(self, inputs: PromptInputs) -> PromptEncoding:
        """A pass: the encodings of prompts."""
        return self._network.read(inputs.tokens, likeliest=self._sampling.likeliest)

    def _predict(self, inputs: DenoiseInputs) -> tuple[Tensor]:
        """A pass: the clean images, fp32 [tile, C, H, W]."""
        noisy = inputs.noisy.to(self._dtype)
        prompts = PromptEncoding(*(part[: len(noisy)] for part in self._prompts))
        return (self._network.denoise(noisy, inputs.time, prompts).float().contiguous(),)

    def _denoise(self, rows: Sequence[FlowRow]) -> Pass:
        inputs = self._denoising.inputs()
        index = 0
        for row in rows:
            assert row.encoding is not None
            encodings = (row.encoding, self._unconditional) if row.guided else (row.encoding,)
            for place, encoding in product(row.windows.next, encodings):
                inputs.noisy[index] = row.trajectory.latent[place]
                inputs.time[index] = row.trajectory.time
                self._put(index, encoding)
                index += 1
        count, index = index, 0
        (predicted,) = self._denoising.fetch(count)
        for row in rows:
            whole = None
            for _ in row.windows.next:
                clean = predicted[index].clone()
                index += 1
                if row.guided:  # classifier-free guidance, Ho and Salimans 2022
                    clean = torch.lerp(predicted[index], clean, row.guidance)
                    index += 1
                whole = row.windows.add(clean)  # the last one tells
            if whole is None:
                continue
            if row.trajectory.ends:
                whole = without_grain(whole, self._sampling.grain)
            clean = whole if row.known is None else row.known.correct(whole)
            row.trajectory.advance(clean)
            row.predicted = clean
        return Pass("denoise", count, self._denoising.size)

    def _put(self, index: int, encoding: PromptEncoding) -> None:
        if self._placed[index] is encoding:  # rows keep their positions, mostly
            return
        self._placed[index] = encoding
        for target, source in zip(self._prompts, encoding, strict=True):
            target[index] = source


def _unseen(start: Beginning) -> Tensor:
    """What is known of an image before any prediction, for its first preview."""
    if start.known is None:
        return start.latent
    return start.known.correct(torch.zeros_like(start.latent))
