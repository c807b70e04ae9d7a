"""What crosses the pipe between the API process and a worker: frozen data, nothing else.

Times are `time.monotonic`, which all processes of one machine share.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.engine.settings import EngineSettings
from model.protocol import LoadedModel, Pass, Result
from model.request import ImageRequest, Picture

# To the worker ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The first message."""

    opener: str  # "module:function", called with these settings; returns an `app.engine.device`
    device: str  # "cpu", "cuda:0", or "auto": the best there is
    engine: EngineSettings  # with the worker's own number of threads


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row for the worker to compute, known by ``id`` from now on."""

    id: int
    request: ImageRequest
    watched: bool  # whether previews are wanted
    seen: int  # previews up to this step were shown before, by a worker that died
    due: int = 0  # rows with the least step first


@dataclass(frozen=True, slots=True)
class Admit:
    rows: tuple[NewRow, ...]


@dataclass(frozen=True, slots=True)
class Watch:
    """From now on, previews of this row are wanted."""

    id: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """No job waits for these rows any longer. Rows that are unknown by now are ignored."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """End after the step that runs."""


ToWorker = WorkerSettings | Admit | Watch | Cancel | Stop

# From the worker --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The device is open; the models come next. ``devices`` is what "auto" stands for here."""

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """All models are loaded, warm and tested."""

    models: tuple[LoadedModel, ...]


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The worker cannot do what its settings say; it ends after this."""

    reason: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Nothing happened, and the worker is well."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """A row took part in a step. Passes that encode or decode need not count as one."""

    id: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Previewed:
    """A row's image as it was after ``step``."""

    id: int
    step: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class Finished:
    """A row's result is final; the worker has released it."""

    id: int
    result: Result
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A row ended without a result, by itself; the worker has released it."""

    id: int
    reason: str
    refused: bool  # whether its request is why


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one model."""

    model: str
    seconds: float  # that it took
    passes: tuple[Pass, ...]
    joined: int  # rows that took their first step beside rows already under way
    left: int  # rows that took their last step beside rows that go on


@dataclass(frozen=True, slots=True)
class Stepped:
    """One step or a few, and what came of them."""

    steps: tuple[Step, ...]
    advanced: tuple[Advanced, ...]  # once for each row
    previewed: tuple[Previewed, ...]
    finished: tuple[Finished, ...]
    memory: int  # bytes held on the device
    failed: tuple[Failed, ...] = ()

    @property
    def seconds(self) -> float:
        """That all of the steps took."""
        return sum(step.seconds for step in self.steps)

    @property
    def is_waited_for(self) -> bool:
        """Whether a request waits for it: a result, or a preview."""
        return bool(self.finished or self.failed or self.previewed)

    @property
    def frees_slots(self) -> bool:
        """Whether slots are free after the next step, see `app.engine.row.Row.leaving`."""
        return any(row.step >= row.steps - 1 for row in self.advanced)

    def followed_by(self, later: Stepped) -> Stepped:
        """Both as one. Of each row, only how far it is in the end."""
        advanced = {row.id: row for row in (*self.advanced, *later.advanced)}
        return Stepped(
            steps=self.steps + later.steps,
            advanced=tuple(advanced.values()),
            previewed=self.previewed + later.previewed,
            finished=self.finished + later.finished,
            memory=later.memory,
            failed=self.failed + later.failed,
        )


@dataclass(frozen=True, slots=True)
class Left:
    """These rows were cancelled and hold nothing any longer."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The model does not take this row."""

    id: int
    reason: str


RowNews = Stepped | Left | Refused
FromWorker = Opened | Ready | StartFailed | Beat | RowNews
