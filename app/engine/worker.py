"""The process that owns one device: admit, step, emit, until it is stopped.

Started by `app.engine.process` as ``python -m app.engine.worker PIPE PARENT MODULES…``. It ends
with its parent, even one that was killed, and leaves Ctrl-C and SIGTERM to it: the parent drains,
the worker works on. An exception in a step ends the process, as the state of its rows is then
unknown; the parent has them computed again.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from app.engine.batcher import next_model
from app.engine.device import Device, DeviceError
from app.engine.messages import (
    Admit,
    Beat,
    Cancel,
    Left,
    Opened,
    Ready,
    Refused,
    StartFailed,
    Stepped,
    Stop,
    Watch,
    WorkerSettings,
)
from app.engine.process import Pipe
from app.engine.runner import Runner
from app.engine.selftest import examine
from model.checkpoint import CheckpointError
from model.protocol import ImageModel, LoadedModel

BEAT = 1.0  # seconds between signs of life while there is nothing to do
REPORT = 0.1
"""Seconds of steps that are reported together where nobody waits for one of them. A report takes a
core from the next step for a moment, and on a CPU the threads of that wait for each other."""

PAUSE = 0.005
"""Seconds without a step after which threads of libraries are taken to sleep."""


class Loop:
    """Admit, step, emit. The models alternate, step by step, so that none blocks another."""

    def __init__(self, pipe: Pipe, device: Device, runners: dict[str, Runner]) -> None:
        self._pipe = pipe
        self._device = device
        self._runners = runners
        self._last: str | None = None
        self._stepped = time.monotonic()  # when the last step ended
        self._unreported: Stepped | None = None

    def run(self) -> None:
        """Returns when it is stopped."""
        while self._admit():
            stepped = self._step()
            if stepped is None:
                self._send(Beat())
            else:
                self._report(stepped)

    def _report(self, stepped: Stepped) -> None:
        held = self._unreported
        report = self._unreported = held.followed_by(stepped) if held else stepped
        if (
            report.is_waited_for
            or report.seconds >= REPORT
            or (report.frees_slots and any(runner.full for runner in self._runners.values()))
        ):
            self._flush()

    def _flush(self) -> None:
        report, self._unreported = self._unreported, None
        if report is not None:
            self._pipe.send(report)

    def _send(self, message: Beat | Left | Refused) -> None:
        """After what rows did before."""
        self._flush()
        self._pipe.send(message)

    def _admit(self) -> bool:
        idle = not any(runner.has_rows for runner in self._runners.values())
        for message in self._pipe.receive(timeout=BEAT if idle else 0):
            match message:
                case Admit():
                    for row in message.rows:
                        self._runners[row.request.model].add(row)
                case Watch():
                    for runner in self._runners.values():
                        runner.watch(message.id)
                case Cancel():
                    self._cancel(message.ids)
                case Stop():
                    return False
        for runner in self._runners.values():
            for refused in runner.admit():
                self._send(refused)
        return True

    def _cancel(self, ids: tuple[int, ...]) -> None:
        left = tuple(
            row for row in ids if any(runner.cancel(row) for runner in self._runners.values())
        )
        if left:
            self._send(Left(left))

    def _step(self) -> Stepped | None:
        models = [model for model, runner in self._runners.items() if runner.running]
        if not models:
            return None
        self._last = next_model(models, self._last)
        paused = time.monotonic() - self._stepped >= PAUSE
        with self._device.after_a_pause() if paused else nullcontext():
            stepped = self._runners[self._last].step(self._device.memory())
        self._stepped = time.monotonic()
        return stepped


def run_worker(connection: Connection) -> int:
    """A worker's whole life; the process's exit status."""
    try:
        settings = connection.recv()
    except EOFError:  # started ahead, and not needed
        return 0
    pipe = Pipe(connection)
    try:
        device = _open(settings)
        pipe.send(Opened(device.names))
        models = [_load(device, folder) for folder in settings.engine.models]
        loaded = tuple(_test(device, model) for model in models)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why there is no worker
        if not isinstance(error, CheckpointError | DeviceError):  # these say all there is to say
            traceback.print_exc()
        pipe.send(StartFailed(str(error) or type(error).__name__))
        pipe.close()
        return 1
    pipe.send(Ready(loaded))
    runners = {model.spec.id: Runner(model, settings.engine.previews) for model in models}
    try:
        Loop(pipe, device, runners).run()
    except Exception:  # noqa: BLE001 - the rows are computed again by the next worker
        traceback.print_exc()
        pipe.close()
        return 1
    pipe.close()
    return 0


def _open(settings: WorkerSettings) -> Device:
    module, _, function = settings.opener.partition(":")
    device: Device = getattr(importlib.import_module(module), function)(settings)
    return device


def _load(device: Device, folder: Path) -> ImageModel[Any]:
    with _explained(device, f"while {folder.name} was loaded"):
        return device.load(folder)


def _test(device: Device, model: ImageModel[Any]) -> LoadedModel:
    with _explained(device, f"while {model.spec.id} was tested"):
        return device.describe(model, examine(model))


@contextmanager
def _explained(device: Device, doing: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if explained := device.explain(error, doing):
            raise explained from error
        raise


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies, even if it is stopped just then.

    Elsewhere than on Linux the end of the pipe does it, unless the process is stopped.
    """
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def main() -> None:
    pipe, parent = map(int, sys.argv[1:3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with(parent)
    faulthandler.enable()
    os.set_inheritable(pipe, False)
    for module in sys.argv[3:]:
        importlib.import_module(module)
    status = run_worker(Connection(pipe))
    sys.stderr.flush()
    os._exit(status)  # threads and device libraries must not delay the end


if __name__ == "__main__":
    main()
