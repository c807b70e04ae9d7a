"""A pipeline of diffusers behind the engine's seam: its rows' runs, joined at the network's calls.

A row's pixels depend on its request alone: its noise comes from a CPU generator with its own seed,
its scheduler is its own, texts and images are read and made one at a time, and every pass of the
network has one size, whoever takes part in it. Smaller passes are used only where they were seen to
give the same bits (`Passes`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from model.pipelines.adapters import Adapters
from model.pipelines.arguments import call_arguments, to_picture
from model.pipelines.calls import Call, Layout
from model.pipelines.catalogue import Entry
from model.pipelines.checkpoint import PipelineCheckpoint
from model.pipelines.gate import Gate, Stage
from model.pipelines.networks import networks_of
from model.pipelines.passes import Passes
from model.pipelines.previews import PreviewRun
from model.pipelines.prompts import EncodedPrompts
from model.pipelines.row import PipelineRow, own_copy
from model.protocol import Pass, Result
from model.request import ImageRequest, Operation, Picture
from model.runtime.fixed_pass import by_kind
from model.runtime.rungs import Rungs

log = logging.getLogger(__name__)

SLOTS = 8
"""Evaluations of rows under way in order, at least: rows of different kinds share no pass, and
those that encode or decode leave room in the pass of the others."""


class PipelineModel:
    """An `ImageModel`. ``pipelines`` are those of each operation, made of the same networks.

    Computes without gradients but not in inference mode, as the library's own calls do: weights
    that are moved meanwhile stay ordinary tensors.
    """

    def __init__(
        self,
        checkpoint: PipelineCheckpoint,
        pipelines: Mapping[Operation, Any],
        tile: int,
        *,
        adapters: Adapters,
        prompts: EncodedPrompts,
        preview_decoder: Any = None,
    ) -> None:
        self.spec = checkpoint.spec
        self.cost = checkpoint.cost
        self.tile = tile
        self.slots = 2 * max(SLOTS, tile)
        self._checkpoint, entry = checkpoint, checkpoint.entry
        self._pipelines = pipelines
        self._adapters = adapters
        self._prompts = prompts
        self._preview_decoder = preview_decoder
        self._layout = Layout.of(entry)
        self._count = itertools.count()
        first = pipelines["generate"]
        self._own = {
            name: component
            for name, component in first.components.items()
            if not isinstance(component, torch.nn.Module) and hasattr(component, "config")
            if not hasattr(component, "model_input_names")  # tokenizers and processors
        }
        self.rungs = Rungs(tile, smaller=entry.exact)
        self._passes = Passes(self.rungs, joined=entry.exact)
        for component, method, stage in _networks(first, entry):
            Gate(component, method, stage)

    def capacity(self, kind: str) -> int:
        """See `ImageModel.capacity`."""
        return self.tile if kind.startswith("denoise") else 1

    def start(self, request: ImageRequest) -> PipelineRow:
        """See `ImageModel.start`."""
        self.spec.check(request)
        pipeline = self._pipeline(request)
        arguments = call_arguments(request, self._checkpoint, pipeline)
        lane = self._adapters.lane(request)
        if not self._checkpoint.entry.exact:  # rows would influence each other: none is joined
            lane = f"{lane} row {next(self._count)}"
        return PipelineRow(request, pipeline, arguments, self._prompts, self._layout, lane)

    @torch.no_grad()
    def step(self, rows: Sequence[PipelineRow]) -> list[Pass]:
        """See `ImageModel.step`."""
        passes: list[Pass] = []
        for kind, together in by_kind(self, rows).items():
            self._adapters.select(together[0].request)
            count = sum(row.evaluations for row in together)
            if kind.startswith("denoise"):
                self._denoise(together)
                passes.append(Pass(kind, count, self._passes.size))
                continue
            if kind == "encode":
                self._encode(together[0])
            elif together[0].preview is not None:
                self._preview(together[0])
            else:
                self._resume_alone(together[0])
            passes.append(Pass(kind, 1, 1))
        return passes

    @torch.no_grad()
    def preview(self, row: PipelineRow) -> None:
        """See `ImageModel.preview`. Asks for a pass that decodes the latents as estimated."""
        if row.done or row.estimate is None or row.output is None:
            return
        pipeline = self._pipeline(row.request)
        if self._preview_decoder is not None:
            pipeline.__dict__["vae"] = self._preview_decoder
        arguments = call_arguments(row.request, self._checkpoint, pipeline)
        row.preview = PreviewRun(row, pipeline, arguments)

    def result(self, row: PipelineRow) -> Result:
        """See `ImageModel.result`."""
        if row.failure is not None:
            raise row.failure
        assert row.picture is not None
        return row.picture

    @torch.no_grad()
    def release(self, row: PipelineRow) -> None:
        """See `ImageModel.release`."""
        row.close()

    def _pipeline(self, request: ImageRequest) -> Any:
        return own_copy(self._pipelines[request.operation], self._own)

    def _encode(self, row: PipelineRow) -> None:
        """All that is read before the first step: it is one pass, so that a row does not wait
        behind others for each of its texts."""
        row.resume()
        while not row.done and row.kind == "encode":
            self._resume_alone(row)

    def _resume_alone(self, row: PipelineRow) -> None:
        visit = row.run.waiting
        assert visit is not None
        row.resume(visit.compute())

    def _preview(self, row: PipelineRow) -> None:
        run = row.preview
        assert run is not None
        run.resume()
        while run.waiting is not None:
            run.resume(run.waiting.compute())
        row.preview = None
        if run.error is None:
            row.picture = to_picture(run.result)
        elif row.picture is None:
            log.error("a preview failed", exc_info=run.error)
            row.picture = _grey(row.request)

    def _denoise(self, rows: Sequence[PipelineRow]) -> None:
        calls: list[Call] = [row.call for row in rows]
        visit = rows[0].run.waiting
        assert visit is not None
        for row, output in zip(rows, self._passes.run(visit.gate, calls), strict=True):
            row.output = output
            row.resume(output)


def _grey(request: ImageRequest) -> Picture:
    """What is shown where there is nothing to show yet."""
    return Picture(request.width, request.height, 3, b"\x80" * 3 * request.width * request.height)


def _networks(pipeline: Any, entry: Entry) -> Iterator[tuple[torch.nn.Module, str, Stage]]:
    """What runs wait for: every network of the pipeline, its method, and what that is for."""
    for name, component in networks_of(pipeline).items():
        if name == entry.network:
            yield component, "forward", "denoise"
        elif name == "vae":
            yield component, "encode", "encode"
            yield component, "decode", "decode"
        else:
            yield component, "forward", "encode"
