"""Images drawn by a gpt, one place a step, from left to right and top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.gpt.passes import ONE_BY_ONE, GptPasses, KvSlot, reach
from model.gpt.sequence import UNKNOWN
from model.layers import from_patches, to_patches
from model.protocol import Pass
from model.request import ImageRequest, Picture, Source
from model.runtime.noise import one_of
from model.runtime.pixels import blank, paste, to_picture, to_values
from model.spec import ModelSpec
from model.tokenizer import PromptTokenizer


@dataclass(slots=True, eq=False)
class DrawingRow:
    """An image in the making: ``codes`` [places, codes] so far, `UNKNOWN` where not yet drawn.

    The first KV slot is shown all codes so far. The second, for guidance, is shown only those that
    the request gave: what it predicts does not depend on what was drawn before.
    """

    slots: list[KvSlot]
    codes: Tensor
    values: Tensor  # fp32 [C, H, W]: the image as last decoded, blank before
    given: Sequence[bool]  # of each place: whether its codes are the source's
    uniform: Tensor  # [places, codes], float64: its own noise, from its own seed
    request: ImageRequest
    encoded: bool  # whether the codes of its source are known
    step: int = 0
    decoded: int | None = None  # the step whose image ``values`` is
    wanted: bool = False  # whether a preview is due
    placed: bool = False  # whether a pass has what stays the same at every step

    @property
    def steps(self) -> int:
        return self.codes.shape[0]

    @property
    def done(self) -> bool:
        return self.decoded == self.steps

    @property
    def kind(self) -> Literal["encode", "prefill", "token", "decode"]:
        if self.wanted or (self.step == self.steps and not self.done):
            return "decode"
        if not self.encoded:
            return "encode"
        return "token" if self.slots[0].filled else "prefill"  # all slots are filled alike

    @property
    def evaluations(self) -> int:
        return 1 if self.kind in ONE_BY_ONE else len(self.slots)

    @property
    def shown(self) -> list[Tensor]:
        """The codes [codes] of the place before, as each slot is shown them: `UNKNOWN` if hidden,
        and at the first place."""
        nothing = torch.full_like(self.codes[0], UNKNOWN)
        drawn = self.codes[self.step - 1] if self.step else nothing
        given = drawn if self.step and self.given[self.step - 1] else nothing
        return [drawn, given][: len(self.slots)]

    def take(self, codes: Tensor) -> None:
        """The codes [codes] of the next place; those that are known already stay."""
        if not self.given[self.step]:
            self.codes[self.step] = codes
        self.step += 1


class Drawing:
    """Starts such rows and makes their passes."""

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: PromptTokenizer,
        captions: Sequence[tuple[int, ...]],
        passes: GptPasses,
    ) -> None:
        """``captions`` are the tokens of what a row without a prompt may be one of."""
        self._spec = spec
        self._tokenizer = tokenizer
        self._passes, self._layout, self._slots = passes, passes.layout, passes.slots
        self._patch_size = passes.patch_size
        self._captions = captions
        # What is not drawn yet, or hidden: nothing, on white where there is no transparency.
        shape = (spec.channels, spec.sizes.height, spec.sizes.width)
        self._blank = torch.full(shape, blank(spec.channels))
        self._blank_codes = passes.codes_of(self._blank)
        tile = passes.rungs.tile
        self._indices = torch.arange(tile)
        # The noise of each slot's row, at all places.
        noise = (tile, self._layout.places, self._layout.codes)
        self._uniform = torch.zeros(noise, dtype=torch.float64)

    def start(self, request: ImageRequest) -> DrawingRow:
        """A row; its KV slots are allocated. Raises ``PromptTooLong``."""
        longest = self._spec.max_prompt_tokens
        tokens: Sequence[int] = self._tokenizer.within(request.prompt, longest)
        guided = request.value("guidance") != 1 and bool(tokens)
        begin = longest + 1  # where the image begins, whatever the prompt
        generator = torch.Generator().manual_seed(request.seed)
        shape = (self._layout.places, self._layout.codes)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        if not tokens and request.source is None and self._captions:
            # What it draws without a prompt is the sum over all texts: one of them, then its image.
            # Place by place, without any, the likeliest beginning is white, and so is all that
            # follows.
            tokens = one_of(self._captions, generator)
        text = self._layout.text(tokens) if tokens else self._layout.no_ids()
        indices = self._slots.allocate(2 if guided else 1)
        return DrawingRow(
            slots=[KvSlot.empty(index, begin - len(text), text) for index in indices],
            codes=torch.full(shape, UNKNOWN),
            values=self._blank,
            given=[False] * self._layout.places,
            uniform=uniform,
            request=request,
            encoded=request.source is None,
        )

    def encode(self, row: DrawingRow) -> None:
        """A pass: the codes of its source, of which those are prefilled that it begins with."""
        source = row.request.source
        assert source is not None
        hidden = _hidden(source)
        values = torch.where(hidden, self._blank, to_values(source.picture))
        codes = self._passes.codes_of(values)
        given = ~self._by_place(hidden)
        row.given = given.tolist()
        row.codes = torch.where(given[:, None], codes, UNKNOWN)
        row.step = int(given.long().cumprod(0).sum())
        row.encoded = True
        if row.step < row.steps:
            begin = self._layout.image(row.codes[: row.step])[: row.step]
            for slot in row.slots:
                slot.waiting = torch.cat((slot.waiting, begin))

    def token(self, rows: Sequence[DrawingRow]) -> Pass:
        """A pass: the next place of each row."""
        inputs = self._passes.token.inputs()
        for row in rows:
            if not row.placed:
                self._place(row)
        slots = [(row, slot) for row in rows for slot in row.slots]
        index = torch.tensor([slot.index for _, slot in slots])
        steps = torch.tensor([row.step for row, _ in slots])
        shown = torch.stack([codes for row in rows for codes in row.shown])
        inputs.ids[index, 0] = self._layout.place(steps, shown)
        inputs.positions.fill_(self._passes.scratch)
        inputs.positions[index, 0] = torch.tensor([slot.position for _, slot in slots])
        inputs.uniform[index] = self._uniform[index, steps]
        # Every other slot is on its own: whom it belonged to before may lie outside the pass.
        inputs.undrawn.copy_(self._indices)
        inputs.undrawn[index] = torch.tensor([row.slots[-1].index for row, _ in slots])
        inputs.leader.copy_(self._indices)
        inputs.leader[index] = torch.tensor([row.slots[0].index for row, _ in slots])
        for _, slot in slots:
            slot.position += 1
        codes, _ = self._passes.token.fetch(reach(slot for _, slot in slots))
        for row in rows:
            row.take(codes[row.slots[0].index])
        return Pass("token", len(slots), self._passes.token.size)

    def _place(self, row: DrawingRow) -> None:
        """What of its inputs stays the same at every step."""
        inputs, request = self._passes.token.inputs(), row.request
        temperature = request.value("temperature")
        for slot in row.slots:
            index = slot.index
            self._uniform[index] = row.uniform
            inputs.first[index] = slot.first
            inputs.guidance[index] = request.value("guidance")
            inputs.temperature[index] = temperature or 1.0
            inputs.top_k[index] = int(request.value("top_k")) or self._layout.values
            inputs.top_p[index] = request.value("top_p") if temperature else 0.0
        row.placed = True

    def decode(self, row: DrawingRow) -> None:
        """A pass: the image of the codes so far; places that have none yet are blank."""
        unknown = row.codes == UNKNOWN
        values = self._passes.values_of(torch.where(unknown, self._blank_codes, row.codes))
        row.values = torch.where(self._by_pixel(unknown[:, 0]), self._blank, values)
        row.decoded, row.wanted = row.step, False

    def picture(self, row: DrawingRow) -> Picture:
        """The image as last decoded, with what the source keeps."""
        picture = to_picture(row.values)
        return picture if row.request.source is None else paste(row.request.source, picture)

    def _by_place(self, pixels: Tensor) -> Tensor:
        """Places with any such pixel: [1, H, W] → [places]."""
        return to_patches(pixels[None], self._patch_size)[0].any(1)

    def _by_pixel(self, places: Tensor) -> Tensor:
        """All pixels of such places: [places] → [1, H, W]."""
        patches = places[None, :, None].expand(-1, -1, self._patch_size**2)
        return from_patches(patches, self._patch_size, self._spec.sizes.height)[0]


def _hidden(source: Source) -> Tensor:
    """Where the mask has something regenerated: [1, H, W]."""
    assert source.mask is not None
    mask = torch.frombuffer(bytearray(source.mask), dtype=torch.uint8)
    return (mask != 0).view(1, source.picture.height, source.picture.width)
