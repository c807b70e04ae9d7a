"""A gpt behind the engine's seam: a step is one place of a picture, or a few weighed texts.

Promises that a row's result depends on its request alone: its noise comes from its own seed, every
pass has the same shape whatever is in it, a lane of the cache is fed by one row, and choices are
made in whole numbers. Rows at different places share each pass; what a row holds of the cache is
free as soon as it is let go. Knows nothing about queues, processes or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.gpt.drawing import DrawingRow
from model.gpt.lanes import Lane, Lanes
from model.gpt.network import Gpt
from model.gpt.passes import CHUNK, GptPasses
from model.gpt.reading import Inquiry, ReadingRow, read
from model.gpt.search import Search, Text, Trie, best_of, weigh_all
from model.gpt.sequence import UNKNOWN
from model.noise import one_of
from model.passes import Mode
from model.patches import from_patches, to_patches
from model.pixels import blank, paste, to_picture, to_values
from model.protocol import (
    Description,
    Label,
    ModelSpec,
    Picture,
    Result,
    RowRequest,
    Source,
    TokenSampling,
)
from model.tokenizer import PromptTokenizer, PromptTooLong

GptRow = DrawingRow | ReadingRow

LABELS = 5
"""How many labels are found where none are given."""

LABEL_BEAM = 8
"""Beginnings of labels that are followed at once."""


class GptSampler:
    """An `ImageModel`. The network must be in its serving dtype, on its device."""

    def __init__(
        self,
        spec: ModelSpec,
        network: Gpt,
        tokenizer: PromptTokenizer,
        captions: Sequence[str],
        tile: int,
        mode: Mode = "eager",
    ) -> None:
        if tile < 2:
            raise ValueError(f"tile is {tile}, guidance needs at least 2")
        network.eval().requires_grad_(False)
        self.spec = spec
        self.tile = tile
        self._codec = network.codec.config
        self._layout = network.transformer.layout
        self._tokenizer = tokenizer
        self._passes = GptPasses(network, tile, mode)
        self._lanes = Lanes(tile)
        self.know(captions)
        self._learned = list(self._captions)
        # What is not drawn yet, or hidden: nothing, on white where there is no transparency.
        self._blank = torch.full((spec.channels, spec.size, spec.size), blank(spec.channels))
        self._blank_codes = self._encode(self._blank)

    @property
    def free_lanes(self) -> int:
        """How many lanes of the cache no row holds."""
        return self._lanes.free

    @property
    def _longest(self) -> int:
        """Tokens of a text."""
        return self.spec.max_prompt_tokens

    def know(self, captions: Sequence[str]) -> None:
        """What labels are chosen from where a request gives none. Rows that started before keep
        what they have."""
        known = {tuple(self._tokenizer.tokens(caption)): caption for caption in captions}
        self._captions = {text: known[text] for text in known if len(text) <= self._longest}
        self._trie = Trie.of(self._captions)

    def start(self, request: RowRequest) -> GptRow:
        """See `ImageModel.start`. Raises ``ValueError`` for what the operation cannot take."""
        match request.operation:
            case "generate" if request.source is None:
                return self._start_drawing(request)
            case "inpaint" if request.source is not None:
                self._check(request.source, masked=True)
                return self._start_drawing(request)
            case "describe" if request.source is not None:
                self._check(request.source, masked=False)
                return self._start_reading(request, request.source)
            case operation:
                raise ValueError(f"{self.spec.id} cannot {operation} this")

    def step(self, rows: Sequence[GptRow]) -> None:
        """See `ImageModel.step`."""
        kinds = {kind: [r for r in rows if r.kind == kind] for kind in ("feed", "draw", "read")}
        encode = [row for row in rows if row.kind == "encode"]
        for kind in (encode, *kinds.values()):
            needed = sum(row.evaluations for row in kind)
            if needed > self.tile:
                raise ValueError(f"{needed} evaluations do not fit a tile of {self.tile}")
        for row in encode:
            self._read_source(row)
        if kinds["feed"]:
            self._feed(kinds["feed"])
        if drawing := [row for row in kinds["draw"] if isinstance(row, DrawingRow)]:
            self._draw(drawing)
        if reading := [row for row in kinds["read"] if isinstance(row, ReadingRow)]:
            self._read(reading)

    def result(self, row: GptRow) -> Result:
        """See `ImageModel.result`."""
        return self._picture(row) if isinstance(row, DrawingRow) else self._description(row)

    def release(self, row: GptRow) -> None:
        """See `ImageModel.release`."""
        self._lanes.give_back(row.lanes)

    # Rows -----------------------------------------------------------------------------------------

    def _start_drawing(self, request: RowRequest) -> DrawingRow:
        tokens = self._tokens(request.prompt)
        guided = request.guidance != 1 and bool(tokens)
        begin = self._longest + 1  # where the picture begins, whatever the prompt
        generator = torch.Generator().manual_seed(request.seed)
        shape = (self._codec.places, self._codec.codes)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        if not tokens and request.source is None and self._learned:
            # What it draws unasked is the sum over all texts: one of them, then its picture. Place
            # by place, without any, the likeliest beginning is white, and so is all that follows.
            tokens = one_of(self._learned, generator)
        text = self._layout.text(tokens) if tokens else self._no_bags()
        numbers = self._lanes.take(2 if guided else 1)
        return DrawingRow(
            lanes=[Lane.beginning(number, begin - len(text), text) for number in numbers],
            codes=torch.full(shape, UNKNOWN),
            given=torch.zeros(self._codec.places, dtype=torch.bool),
            uniform=uniform,
            sampling=request.sampling or self._usual,
            guidance=request.guidance,
            source=request.source,
            encoded=request.source is None,
        )

    def _start_reading(self, request: RowRequest, source: Source) -> ReadingRow:
        names = {self._tokens(label): label for label in reversed(request.labels)}
        search: Search
        search = weigh_all(list(names)) if names else best_of(self._trie, LABEL_BEAM, LABELS)
        inquiry = Inquiry(read(search, self._longest))
        lanes = [Lane.beginning(n, 0, self._no_bags()) for n in self._lanes.take(request.places)]
        return ReadingRow(
            lanes, source, inquiry, names or self._captions, self._layout, request.steps
        )

    def _tokens(self, text: str) -> Text:
        """Raises `PromptTooLong`."""
        tokens = self._tokenizer.tokens(text)
        if len(tokens) > self._longest:
            raise PromptTooLong(len(tokens), self._longest)
        return tuple(tokens)

    def _check(self, source: Source, *, masked: bool) -> None:
        picture, size, channels = source.picture, self.spec.size, self.spec.channels
        if (picture.width, picture.height, picture.channels) != (size, size, channels):
            raise ValueError(
                f"a picture of {picture.width} × {picture.height} with {picture.channels} "
                f"channels, not {size} × {size} with {channels}"
            )
        if (source.mask is not None) != masked:
            raise ValueError("inpaint takes a mask, and nothing else does")
        if source.mask is not None and len(source.mask) != size * size:
            raise ValueError(f"a mask of {len(source.mask)} pixels, not {size} × {size}")

    @property
    def _usual(self) -> TokenSampling:
        """What the checkpoint draws with where nothing is said."""
        assert self.spec.tokens is not None
        ranges = self.spec.tokens
        return TokenSampling(
            ranges.temperature.default, int(ranges.top_k.default), ranges.top_p.default
        )

    def _no_bags(self) -> Tensor:
        return torch.zeros(0, self._layout.bag, dtype=torch.long)

    # Passes ---------------------------------------------------------------------------------------

    def _read_source(self, row: GptRow) -> None:
        """Its codes: a row that reads is fed all of them, one that draws those it begins with."""
        assert row.source is not None
        values = to_values(row.source.picture)
        if isinstance(row, ReadingRow):
            bags = self._layout.picture(self._encode(values))
            for lane in row.lanes:
                lane.waiting = bags
        else:
            hidden = self._hidden(row.source)
            codes = self._encode(torch.where(hidden, self._blank, values))
            known = ~self._by_place(hidden)
            row.given = known
            row.codes = torch.where(known[:, None], codes, UNKNOWN)
            row.step = int(known.long().cumprod(0).sum())
            for lane in row.lanes if not row.done else ():
                begin = self._layout.picture(row.codes[: row.step])[: row.step]
                lane.waiting = torch.cat((lane.waiting, begin))
        row.encoded = True

    def _encode(self, values: Tensor) -> Tensor:
        """[C, H, W] → codes [places, codes]."""
        (picture,) = self._passes.encoding.inputs()
        picture[0] = values
        return self._passes.encoding.fetch()[0][0].clone()

    def _feed(self, rows: Sequence[GptRow]) -> None:
        bags, slots, first = self._passes.feeding.inputs()
        slots.fill_(self._passes.nowhere)
        for lane in (lane for row in rows for lane in row.lanes if len(lane.waiting)):
            fed, at = lane.take(CHUNK)
            bags[lane.index, : len(fed)] = fed
            slots[lane.index, : len(fed)] = at
            first[lane.index] = lane.first
        self._passes.feeding.launch()

    def _draw(self, rows: Sequence[DrawingRow]) -> None:
        bags, slots, *_, uniform = self._passes.drawing.inputs()
        for row in rows:
            if not row.placed:
                self._place(row)
        each = [(row, lane) for row in rows for lane in row.lanes]
        index = torch.tensor([lane.index for _, lane in each])
        steps = torch.tensor([row.step for row, _ in each])
        shown = torch.stack([codes for row in rows for codes in row.shown])
        bags[index, 0] = self._layout.place(steps, shown)
        slots.fill_(self._passes.nowhere)
        slots[index, 0] = torch.tensor([lane.slot for _, lane in each])
        uniform[index] = torch.stack([row.uniform[row.step] for row, _ in each])
        for _, lane in each:
            lane.slot += 1
        (codes,) = self._passes.drawing.fetch()
        for row in rows:
            row.take(codes[row.lanes[0].index])

    def _place(self, row: DrawingRow) -> None:
        """What of its inputs stays the same at every step."""
        _, _, first, partner, leader, guidance, temperature, top_k, top_p, _ = (
            self._passes.drawing.inputs()
        )
        sampling = row.sampling
        for lane in row.lanes:
            index = lane.index
            first[index] = lane.first
            partner[index], leader[index] = row.lanes[-1].index, row.lanes[0].index
            guidance[index] = row.guidance
            temperature[index] = sampling.temperature or 1.0
            top_k[index] = sampling.top_k or self._codec.values
            top_p[index] = sampling.top_p if sampling.temperature else 0.0
        row.placed = True

    def _read(self, rows: Sequence[ReadingRow]) -> None:
        bags, slots, first, targets, last = self._passes.reading.inputs()
        slots.fill_(self._passes.nowhere)
        targets.fill_(UNKNOWN)
        for row in rows:
            for lane, text in row.weighing.items():
                count = min(CHUNK, len(text.waiting))
                begin = lane.slot + text.fed
                bags[lane.index, :count] = text.waiting[:count]
                slots[lane.index, :count] = torch.arange(begin, begin + count)
                first[lane.index] = lane.first
                targets[lane.index, :count] = torch.tensor(text.targets(count))
                last[lane.index] = count - 1
        own, following = self._passes.reading.fetch()
        for row in rows:
            for lane, text in tuple(row.weighing.items()):
                count = min(CHUNK, len(text.waiting))
                row.hear(lane, count, float(own[lane.index]), following[lane.index])
            row.advance()

    # Results --------------------------------------------------------------------------------------

    def _picture(self, row: DrawingRow) -> Picture:
        """The codes so far; what they do not tell yet is left blank."""
        unknown = row.codes == UNKNOWN
        (codes,) = self._passes.decoding.inputs()
        codes[0] = torch.where(unknown, self._blank_codes, row.codes)
        values = self._passes.decoding.fetch()[0][0]
        if not row.done:
            values = torch.where(self._by_pixel(unknown[:, 0]), self._blank, values)
        picture = to_picture(values)
        return picture if row.source is None else paste(row.source, picture)

    def _description(self, row: ReadingRow) -> Description:
        found = row.inquiry.found
        assert found is not None
        weights = torch.tensor([one.weight for one in found.labels], dtype=torch.float64)
        labels = tuple(
            Label(row.names[one.text], probability)
            for one, probability in zip(found.labels, weights.softmax(0).tolist(), strict=True)
        )
        return Description(self._tokenizer.text(found.caption), labels)

    # Places and pixels ----------------------------------------------------------------------------

    @staticmethod
    def _hidden(source: Source) -> Tensor:
        """Where the mask wants something new: [1, H, W]."""
        assert source.mask is not None
        mask = torch.frombuffer(bytearray(source.mask), dtype=torch.uint8)
        return (mask != 0).view(1, source.picture.height, source.picture.width)

    def _by_place(self, pixels: Tensor) -> Tensor:
        """Places with any such pixel: [1, H, W] → [places]."""
        return to_patches(pixels[None], self._codec.patch_size)[0].any(1)

    def _by_pixel(self, places: Tensor) -> Tensor:
        """All pixels of such places: [places] → [1, H, W]."""
        patch, size = self._codec.patch_size, self._codec.image_size
        return from_patches(places[None, :, None].expand(-1, -1, patch**2), patch, size)[0]
