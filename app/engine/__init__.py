"""Requests become a batch, the batch becomes steps, steps become images. Does not know HTTP."""

from app.engine.engine import Engine
from app.engine.job import (
    DeadlineExceeded,
    Done,
    Draining,
    EngineError,
    ImageFailed,
    Job,
    NotReady,
    Preview,
    Progress,
    QueueFull,
    RequestRefused,
    Timings,
    UnknownModel,
    WorkerCrashed,
)
from app.engine.metrics import EngineMetrics
from app.engine.settings import EngineSettings
from app.engine.succession import Succession

__all__ = [
    "DeadlineExceeded",
    "Done",
    "Draining",
    "Engine",
    "EngineError",
    "EngineMetrics",
    "EngineSettings",
    "ImageFailed",
    "Job",
    "NotReady",
    "Preview",
    "Progress",
    "QueueFull",
    "RequestRefused",
    "Succession",
    "Timings",
    "UnknownModel",
    "WorkerCrashed",
]
