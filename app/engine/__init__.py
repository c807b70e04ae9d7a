"""Requests become a batch, the batch becomes steps, steps become pictures. Knows no HTTP."""

from app.engine.engine import Engine, State
from app.engine.job import Job
from app.engine.observer import EngineMetrics, NoMetrics
from app.engine.request import (
    DeadlineExceeded,
    Done,
    Draining,
    EngineError,
    Event,
    ImageRequest,
    NotReady,
    Preview,
    Progress,
    QueueFull,
    RequestRefused,
    Timings,
    UnknownModel,
    WorkerCrashed,
)
from app.engine.settings import EngineSettings, parse_devices

__all__ = [
    "DeadlineExceeded",
    "Done",
    "Draining",
    "Engine",
    "EngineError",
    "EngineMetrics",
    "EngineSettings",
    "Event",
    "ImageRequest",
    "Job",
    "NoMetrics",
    "NotReady",
    "Preview",
    "Progress",
    "QueueFull",
    "RequestRefused",
    "State",
    "Timings",
    "UnknownModel",
    "WorkerCrashed",
    "parse_devices",
]
