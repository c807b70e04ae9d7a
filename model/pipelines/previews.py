"""Previews: the clean image as a scheduler's step predicts it, through the pipeline's own ending.

How latents are unpacked, scaled and decoded is in the last lines of each pipeline's call and
nowhere else. So a preview runs the call again, with every network's answer known beforehand but the
last: what was encoded is what the row encoded, the network's answers are its last one over and
over, and each step of the scheduler returns the estimate.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from model.pipelines.gate import Run, Visit

if TYPE_CHECKING:
    from model.pipelines.row import PipelineRow


class Estimate:
    """The clean latents, as the last step of a scheduler saw them."""

    def __init__(self, scheduler: Any, output: Any, timestep: Any, sample: Any) -> None:
        self._scheduler = scheduler
        self._output = output
        self._timestep = timestep
        self._sample = sample
        self._sigma = self._current_sigma()
        self._result: Any = None

    def after(self, result: Any) -> None:
        """Takes what the step returned."""
        self._result = result

    @property
    def latents(self) -> Any:
        """Of the scheduler's own kind where that is known, else as they were after the step."""
        result = self._result
        if isinstance(result, tuple) and len(result) > 1 and _like(result[1], result[0]):
            return result[1]  # some return it
        if (known := getattr(result, "pred_original_sample", None)) is not None:
            return known
        after = result[0] if isinstance(result, tuple) else result.prev_sample
        outputs = getattr(self._scheduler, "model_outputs", None)
        if outputs and outputs[-1] is not None:  # multistep solvers convert each answer
            return outputs[-1].to(after.dtype)
        if self._sigma is not None and _like(self._output, self._sample):
            prediction = getattr(self._scheduler.config, "prediction_type", "flow")
            sigma = self._sigma
            if prediction == "v_prediction":
                scale = (sigma**2 + 1) ** 0.5
                clean = self._sample / scale**2 - self._output * sigma / scale
            else:  # a velocity, or noise of variance-exploding samples: the same line
                clean = self._sample - sigma * self._output
            return clean.to(after.dtype)
        cumulated = getattr(self._scheduler, "alphas_cumprod", None)
        if cumulated is not None and _like(self._output, self._sample):
            alpha = cumulated[int(self._timestep)].to(self._sample.device)
            return (self._sample - (1 - alpha) ** 0.5 * self._output) / alpha**0.5
        return after

    def _current_sigma(self) -> float | None:
        """The noise level that the step begins at."""
        sigmas = getattr(self._scheduler, "sigmas", None)
        if sigmas is None or len(sigmas) not in (
            len(self._scheduler.timesteps),
            len(self._scheduler.timesteps) + 1,
        ):
            return None
        index = getattr(self._scheduler, "step_index", None)
        if index is None:
            index = getattr(self._scheduler, "begin_index", None) or 0
        return float(sigmas[min(index, len(sigmas) - 1)])


def _like(some: Any, other: Any) -> bool:
    return getattr(some, "shape", None) == getattr(other, "shape", ())


class PreviewRun(Run):
    """A row's pipeline run to its end at once, up to the decoder's call."""

    def __init__(self, row: PipelineRow, pipeline: Any, arguments: dict[str, Any]) -> None:
        super().__init__(lambda: pipeline(**arguments).images[0])
        assert row.estimate is not None
        latents = row.estimate.latents
        self._output = row.output
        self._read = iter(row.read)

        def step(*args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
            if not return_dict:
                return latents, latents
            return SimpleNamespace(prev_sample=latents, pred_original_sample=latents)

        pipeline.scheduler.step = step
        if hasattr(pipeline, "encode_prompt"):
            pipeline.encode_prompt = lambda *args, **kwargs: next(self._read)

    def visit(self, visit: Visit) -> Any:
        match visit.gate.stage:
            case "encode":
                return next(self._read)
            case "denoise":
                return self._output
            case _:
                return super().visit(visit)
