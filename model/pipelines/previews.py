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

CLEAN = ("dpmsolver++", "sde-dpmsolver++", "data_prediction")
"""Kinds of multistep solvers that turn each answer of the network into clean latents."""


class Estimate:
    """The clean latents, as a step of a scheduler saw them; taken after the step."""

    def __init__(
        self, scheduler: Any, output: Any, timestep: Any, sample: Any, result: Any
    ) -> None:
        self._scheduler = scheduler
        self._output = output
        self._timestep = timestep
        self._sample = sample
        self._result = result
        self._levels = self._noise_levels()  # the scheduler goes on

    @property
    def latents(self) -> Any:
        """As the scheduler itself predicts them; else as its noise levels and the network's answer
        make them; else as they are after the step."""
        result = self._result
        after = result[0] if isinstance(result, tuple) else result.prev_sample
        if (said := self._said()) is not None:
            return said
        if self._levels is None or not _like(self._output, self._sample):
            return after
        alpha, sigma = self._levels
        match self._config("prediction_type", "flow_prediction"):
            case "sample":
                clean = self._output
            case "epsilon":
                clean = (self._sample - sigma * self._output) / alpha
            case "v_prediction":
                clean = alpha * self._sample - sigma * self._output
            case _:  # a velocity
                clean = self._sample - sigma * self._output
        return clean.to(after.dtype)

    def _said(self) -> Any:
        """The scheduler's own prediction, if there is one."""
        result = self._result
        if not isinstance(result, tuple):
            return getattr(result, "pred_original_sample", None)
        named = not type(self._scheduler).__name__.startswith("TCD")  # its second is noised
        if named and len(result) > 1 and _like(result[1], result[0]):
            return result[1].to(result[0].dtype)
        answers = getattr(self._scheduler, "model_outputs", None)
        clean = self._config("algorithm_type", "") in CLEAN or self._config("predict_x0", False)
        if clean and answers and answers[-1] is not None:
            return answers[-1].to(result[0].dtype)
        return None

    def _noise_levels(self) -> tuple[Any, Any] | None:
        """Alpha and sigma of what the step began with, a sum of alpha times the clean latents and
        sigma times noise."""
        scheduler = self._scheduler
        cumulated = getattr(scheduler, "alphas_cumprod", None)
        sigmas, index = (getattr(scheduler, name, None) for name in ("sigmas", "step_index"))
        if sigmas is not None and index:
            sigma = sigmas[min(index, len(sigmas)) - 1]
            if (both := getattr(scheduler, "_sigma_to_alpha_sigma_t", None)) is not None:
                alpha, sigma = both(sigma)
                return float(alpha), float(sigma)
            if cumulated is None:
                return 1 - float(sigma), float(sigma)
        if cumulated is not None:
            alpha = float(cumulated[int(self._timestep)])
            return alpha**0.5, (1 - alpha) ** 0.5
        return None

    def _config(self, name: str, default: Any) -> Any:
        return self._scheduler.config.get(name, default)


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
