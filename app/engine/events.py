"""What the engine answers: the events of a job, and why there are no more of them."""

from __future__ import annotations

from dataclasses import dataclass

from model.protocol import Result
from model.request import Picture


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one image's time went, in seconds."""

    queue: float  # from acceptance to its row's start
    compute: float  # from its row's start to its last step, steps of other rows included


@dataclass(frozen=True, slots=True)
class Progress:
    """The image of request ``index`` has done ``step`` of ``steps``."""

    index: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The image of request ``index`` as it was after ``step`` of ``steps``."""

    index: int
    step: int
    steps: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class Done:
    """The image of request ``index``, final; or its description, where that was asked for."""

    index: int
    result: Result
    timings: Timings
    cached: bool = False  # answered from memory, no model ran


Event = Progress | Preview | Done


class EngineError(Exception):
    """Why the engine did not make an image. ``str()`` is a sentence for the client."""


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


class ImageFailed(EngineError):
    """The image's own computation failed, without harm to others."""


class WorkerCrashed(EngineError):
    """The worker died on this image again and again, while it ran alone."""
