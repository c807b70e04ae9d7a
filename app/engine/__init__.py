"""Requests become a batch, the batch becomes steps, steps become images. Does not know HTTP."""

from app.engine.engine import Engine, State
from app.engine.events import (
    DeadlineExceeded,
    Done,
    Draining,
    EngineError,
    Event,
    NotReady,
    Preview,
    Progress,
    QueueFull,
    RequestRefused,
    Timings,
    UnknownModel,
    WorkerCrashed,
)
from app.engine.job import Job
from app.engine.metrics import EngineMetrics
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
    "Job",
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
