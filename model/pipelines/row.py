"""One image in the making: a run of its pipeline, and what is known of it from outside."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from model.pipelines.arguments import to_picture
from model.pipelines.calls import Call, Digests, Layout
from model.pipelines.gate import Run, Visit
from model.pipelines.previews import Estimate
from model.pipelines.prompts import MOST_OF_ONE_ENCODER, EncodedPrompts
from model.protocol import RowFailed
from model.request import ImageRequest, Picture

log = logging.getLogger(__name__)

Adapter = tuple[str, float]
"""The name and the scale of the LoRA that a row is encoded with."""


class PipelineRow:
    """A row behind the engine's seam. What it holds of the device goes with `close`.

    ``pipeline`` is its own: a shallow copy with its own scheduler. ``lane`` keeps it apart from
    rows that run with other adapters.
    """

    def __init__(
        self,
        request: ImageRequest,
        pipeline: Any,
        arguments: Mapping[str, Any],
        prompts: EncodedPrompts,
        layout: Layout,
        lane: str,
    ) -> None:
        self.request = request
        self.lane = lane
        self.step = 0
        self.steps = int(request.value("steps", 1))
        self.picture: Picture | None = None  # as last decoded
        self.failure: RowFailed | None = None
        adapter = (request.lora, request.value("lora_scale", 1.0))
        self.run = _Main(self, functools.partial(_draw, pipeline, arguments), prompts, adapter)
        self.preview: Run | None = None
        self.output: Any = None  # the network's last answer
        self.read: list[Any] = []  # what was encoded, in order: previews are answered with it
        self.estimate: Estimate | None = None  # after a step
        self._call: Call | None = None
        self._layout = layout
        self._digests = Digests()
        self._watch(pipeline.scheduler, arguments["generator"])
        self._reading = False  # inside ``encode_prompt``, which remembers its own answers
        if hasattr(pipeline, "encode_prompt"):
            pipeline.encode_prompt = self._remembering(prompts, adapter, pipeline.encode_prompt)

    @property
    def kind(self) -> str:
        """See `ModelRow.kind`. Rows whose calls can share a pass are of one kind."""
        if self.preview is not None:
            return "decode"
        waiting = self.run.waiting
        if waiting is None:
            return "encode"
        return (
            f"denoise {self.call.kind}" if waiting.gate.stage == "denoise" else waiting.gate.stage
        )

    @property
    def call(self) -> Call:
        """The network's call that it waits for."""
        if self._call is None:
            assert self.run.waiting is not None
            arguments = self.run.waiting.arguments
            self._call = Call.of(arguments, self._layout, self.lane, self._digests)
        return self._call

    @property
    def evaluations(self) -> int:
        """See `ModelRow.evaluations`."""
        return self.call.evaluations if self.kind.startswith("denoise") else 1

    @property
    def done(self) -> bool:
        """See `ModelRow.done`."""
        return self.run.done

    def resume(self, answer: Any = None) -> None:
        """Goes on with its run, up to the next call of a network or the end."""
        self._call = None
        self.run.resume(answer)
        if self.run.done:
            self._end()

    def close(self) -> None:
        """Ends its runs and lets go of all that they held. Idempotent."""
        if self.preview is not None:
            self.preview.close()
        self.run.close()
        self.preview = self.output = self.estimate = self._call = None
        self.read, self._digests = [], Digests()

    def note(self, answer: Any) -> None:
        """Keeps what a network read; inside ``encode_prompt``, what that returns is kept."""
        if not self._reading:
            self.read.append(answer)

    def _end(self) -> None:
        error, result = self.run.error, self.run.result
        self.run.error = self.run.result = None
        if error is None:
            self.picture = to_picture(result)
            return
        refused = isinstance(error, ValueError)  # what the library checks of its arguments
        message = str(error) or type(error).__name__
        if not refused:
            log.error("an image failed", exc_info=error)
            message = f"{type(error).__name__}: {error}"
        self.failure = RowFailed(message, refused=refused)

    def _watch(self, scheduler: Any, generator: Any) -> None:
        """Counts the steps of its scheduler, and keeps what previews are estimated from.

        Schedulers that draw noise get the row's generator: some pipelines do not pass it on.
        """
        advance = scheduler.step
        draws = "generator" in inspect.signature(advance).parameters

        @functools.wraps(advance)
        def step(model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
            if self.step == 0:
                self.steps = _left(scheduler, timestep)
            if draws and not args:
                kwargs.setdefault("generator", generator)
            result = advance(model_output, timestep, sample, *args, **kwargs)
            self.estimate = Estimate(scheduler, model_output, timestep, sample, result)
            self.step += 1
            return result

        scheduler.step = step

    def _remembering(
        self, prompts: EncodedPrompts, adapter: Adapter, encode: Callable[..., Any]
    ) -> Callable[..., Any]:
        """``encode_prompt`` with the answers that are known already."""

        @functools.wraps(encode)
        def remembering(*args: Any, **kwargs: Any) -> Any:
            self._reading = True
            try:
                answer = prompts.get((adapter, args, kwargs), lambda: encode(*args, **kwargs))
            finally:
                self._reading = False
            self.read.append(answer)
            return answer

        return remembering


class _Main(Run):
    """The run that makes the image. What an encoder has read already is answered at once."""

    def __init__(
        self, row: PipelineRow, call: Callable[[], Any], prompts: EncodedPrompts, adapter: Adapter
    ) -> None:
        super().__init__(call)
        self._row = row
        self._prompts, self._adapter = prompts, adapter

    def visit(self, visit: Visit) -> Any:
        wait = super().visit
        if visit.gate.stage != "encode":
            return wait(visit)
        asked = (id(visit.gate), self._adapter, visit.arguments)
        answer = self._prompts.get(asked, lambda: wait(visit), MOST_OF_ONE_ENCODER)
        self._row.note(answer)
        return answer


def own_copy(pipeline: Any, deeply: Mapping[str, Any]) -> Any:
    """The pipeline with the same networks, and components of its own in place of ``deeply``."""
    own = copy.copy(pipeline)
    for name, component in deeply.items():
        own.__dict__[name] = copy.deepcopy(component)
    own.maybe_free_model_hooks = lambda: None  # networks are not this row's alone
    return own


def _draw(pipeline: Any, arguments: Mapping[str, Any]) -> Any:
    return pipeline(**arguments).images[0]


def _left(scheduler: Any, timestep: Any) -> int:
    """Steps from this one to the last."""
    timesteps = [float(each) for each in scheduler.timesteps]
    try:
        return len(timesteps) - timesteps.index(float(timestep))
    except ValueError:
        return len(timesteps)
