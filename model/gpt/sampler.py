"""A gpt behind the engine's seam: a step is one place of an image, or a few scored texts.

A row's result depends on its request alone: its noise comes from its own seed, every pass has the
bits of one shape whatever is in it, a KV slot is written by one row, and tokens are sampled in
whole numbers. Rows at different places share each pass; their KV slots are free once they are
released.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.gpt.captioning import Captioning, CaptioningRow
from model.gpt.config import cost
from model.gpt.drawing import Drawing, DrawingRow
from model.gpt.network import Gpt
from model.gpt.passes import CHUNK, ONE_BY_ONE, GptPasses, reach
from model.protocol import Pass, Result
from model.request import ImageRequest
from model.runtime.fixed_pass import Mode, by_kind
from model.spec import ModelSpec
from model.tokenizer import PromptTokenizer

GptRow = DrawingRow | CaptioningRow


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
        self.slots = tile
        self._passes = GptPasses(network, tile, mode)
        self.rungs = self._passes.rungs
        self._tokenizer = tokenizer
        known = tokenizer.by_tokens(captions, spec.max_prompt_tokens)
        self._drawing = Drawing(spec, tokenizer, [*known], self._passes)
        self._captioning = Captioning(spec, tokenizer, known, self._passes)

    @property
    def free_slots(self) -> int:
        """How many KV slots no row holds."""
        return self._passes.slots.free

    def know(self, captions: Sequence[str]) -> None:
        """Sets what labels are chosen from where a request gives none. Rows that started before
        keep what they have."""
        self._captioning.know(self._tokenizer.by_tokens(captions, self.spec.max_prompt_tokens))

    def cost(self, request: ImageRequest) -> int:
        """See `ImageModel.cost`."""
        return cost(request)

    def capacity(self, kind: str) -> int:
        """See `ImageModel.capacity`. The codec takes one image a pass, which is short: so those
        that end together stay together, and a step is not held up by more than half a tile."""
        return self.tile // 2 if kind in ONE_BY_ONE else self.tile

    def start(self, request: ImageRequest) -> GptRow:
        """See `ImageModel.start`."""
        self.spec.check(request)
        if request.operation == "describe":
            return self._captioning.start(request)
        return self._drawing.start(request)

    def step(self, rows: Sequence[GptRow]) -> list[Pass]:
        """See `ImageModel.step`."""
        passes: list[Pass] = []
        for kind, together in by_kind(self, rows).items():
            drawing = [row for row in together if isinstance(row, DrawingRow)]
            captioning = [row for row in together if isinstance(row, CaptioningRow)]
            match kind:
                case "prefill":
                    passes.append(self._prefill(together))
                case "token":
                    passes.append(self._drawing.token(drawing))
                case "score":
                    passes.append(self._captioning.score(captioning))
                case "encode":
                    for row in drawing:
                        self._drawing.encode(row)
                    for described in captioning:
                        self._captioning.encode(described)
                case "decode":
                    for row in drawing:
                        self._drawing.decode(row)
            if kind in ONE_BY_ONE:
                passes += [Pass(kind, 1, 1)] * len(together)
        return passes

    def preview(self, row: GptRow) -> None:
        """See `ImageModel.preview`."""
        if isinstance(row, DrawingRow):
            row.wanted = not row.done

    def result(self, row: GptRow) -> Result:
        """See `ImageModel.result`."""
        if isinstance(row, DrawingRow):
            return self._drawing.picture(row)
        return self._captioning.description(row)

    def release(self, row: GptRow) -> None:
        """See `ImageModel.release`."""
        self._passes.slots.release(row.slots)

    def _prefill(self, rows: Sequence[GptRow]) -> Pass:
        inputs = self._passes.prefill.inputs()
        inputs.positions.fill_(self._passes.scratch)
        slots = [slot for row in rows for slot in row.slots if not slot.filled]
        for slot in slots:
            ids, positions = slot.take(CHUNK)
            inputs.ids[slot.index, : len(ids)] = ids
            inputs.positions[slot.index, : len(ids)] = positions
            inputs.first[slot.index] = slot.first
        self._passes.prefill.launch(reach(slots))
        return Pass("prefill", len(slots), self._passes.prefill.size)
