"""What is asked of the engine and what it answers: frozen, comparable, free of HTTP and torch."""

from __future__ import annotations

from dataclasses import dataclass

from model.protocol import (
    SEEDS,
    Operation,
    Picture,
    Result,
    RowRequest,
    Solver,
    Source,
    TokenSampling,
)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """``n`` pictures from one prompt; picture ``k`` has seed ``seed + k``. Defaults filled in.

    Of a walk, they are its ``n`` frames, all from the same seed.
    """

    model: str  # the id of a loaded model
    prompt: str
    seed: int
    n: int
    steps: int
    guidance: float
    solver: Solver = "euler"
    operation: Operation = "generate"
    source: Source | None = None  # with every operation but "generate" and "walk"
    sampling: TokenSampling | None = None  # where the model draws tokens
    labels: tuple[str, ...] = ()  # describe: what to choose from

    def rows(self) -> tuple[RowRequest, ...]:
        """The pictures one by one; each is what its seed (and its turn) gives alone."""
        walk = self.operation == "walk"
        return tuple(
            RowRequest(
                prompt=self.prompt,
                seed=self.seed if walk else (self.seed + k) % SEEDS,
                steps=self.steps,
                guidance=self.guidance,
                solver=self.solver,
                operation=self.operation,
                source=self.source,
                sampling=self.sampling,
                labels=self.labels,
                turn=k / self.n if walk else 0.0,
            )
            for k in range(self.n)
        )


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one picture's time went, in seconds."""

    queue: float  # from acceptance to its row's start
    compute: float  # from its row's start to its last step, steps of other rows included


@dataclass(frozen=True, slots=True)
class Progress:
    """Picture ``index`` of the request has done ``step`` of ``steps``."""

    index: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Preview:
    """Picture ``index`` as it stands after ``step`` of ``steps``."""

    index: int
    step: int
    steps: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class Done:
    """Picture ``index``, final; or its description, where that was asked for."""

    index: int
    result: Result
    timings: Timings
    cached: bool = False  # answered from memory, no model ran


Event = Progress | Preview | Done


class EngineError(Exception):
    """Why the engine did not make a picture. ``str()`` is a sentence for the client."""


class UnknownModel(EngineError):
    """No model of that id is loaded."""


class RequestRefused(EngineError):
    """The model does not take this request, e.g. its prompt is too long."""


class NotReady(EngineError):
    """The models are still loading, or could not be loaded."""


class Draining(EngineError):
    """The service is shutting down and takes no new work."""


class QueueFull(EngineError):
    """As many rows wait as the service accepts; ``retry_after`` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(EngineError):
    """The request was not finished by its deadline."""


class WorkerCrashed(EngineError):
    """The worker died on this picture again and again, while it ran alone."""
