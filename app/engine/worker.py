"""The process that owns one device: admit, step, emit, until told to stop.

Started by `app.engine.channel` as ``python -m app.engine.worker PIPE PARENT``. Torch and the
models are imported only once it runs. It ends with its parent, even one that was killed, and
leaves Ctrl-C and SIGTERM to it: the parent drains, the worker works on. An exception in a step
ends the process, as the state of its rows is then unknown; the parent computes them again.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from app.engine.batcher import next_turn
from app.engine.device import Device, DeviceError, Placed
from app.engine.messages import (
    Admit,
    Beat,
    Cancel,
    Left,
    Opened,
    Ready,
    StartFailed,
    Stepped,
    Stop,
    Watch,
    WorkerSettings,
)
from app.engine.pipe import Pipe
from app.engine.runner import Runner
from app.engine.selftest import seed_exact
from model.checkpoint import CheckpointError
from model.protocol import LoadedModel

BEAT = 1.0  # seconds between signs of life while there is nothing to do


class Loop:
    """Admit, step, emit. The models take turns, step by step, so that none blocks another."""

    def __init__(self, pipe: Pipe, device: Device, runners: dict[str, Runner]) -> None:
        self._pipe = pipe
        self._device = device
        self._runners = runners
        self._last: str | None = None

    def run(self) -> None:
        """Returns when told to stop."""
        while self._admit():
            stepped = self._step()
            self._pipe.send(stepped or Beat())

    def _admit(self) -> bool:
        idle = not any(runner.running for runner in self._runners.values())
        for message in self._pipe.receive(timeout=BEAT if idle else 0):
            match message:
                case Admit():
                    for assignment in message.assignments:
                        self._runners[assignment.model].add(assignment)
                case Watch():
                    for runner in self._runners.values():
                        runner.watch(message.id)
                case Cancel():
                    self._cancel(message.ids)
                case Stop():
                    return False
        for runner in self._runners.values():
            for refused in runner.admit():
                self._pipe.send(refused)
        return True

    def _cancel(self, ids: tuple[int, ...]) -> None:
        left = tuple(
            row for row in ids if any(runner.cancel(row) for runner in self._runners.values())
        )
        if left:
            self._pipe.send(Left(left))

    def _step(self) -> Stepped | None:
        models = [model for model, runner in self._runners.items() if runner.running]
        if not models:
            return None
        self._last = next_turn(models, self._last)
        return self._runners[self._last].step(self._device.memory())


class TorchDevice:
    """A device that torch drives."""

    def __init__(self, settings: WorkerSettings) -> None:

        from model.checkpoint import resolve_dtype
        from model.numerics import settle
        from model.passes import mode_on

        self.names = _names(settings.device)
        self._name = self.names[0]
        self._dtype = settings.dtype
        self._tile = settings.tile
        self._mode = mode_on(self._name) if settings.cuda_graphs else "eager"
        self._models = len(settings.models)
        try:
            settle(self._name, settings.threads)
            self._dtype = resolve_dtype(settings.dtype, self._name)
        except RuntimeError as error:  # a driver needs memory of its own to begin with
            if explained := self.explain(error, "while the device was opened"):
                raise explained from error
            raise

    def load(self, folder: str) -> Placed:
        """See `Device.load`."""
        import torch

        from model.checkpoint import Checkpoint, load_model
        from model.numerics import device_name, numerics

        name, dtype, tile, mode = self._name, self._dtype, self._tile, self._mode
        checkpoint = Checkpoint.open(Path(folder))
        model = load_model(checkpoint, device=name, dtype=dtype, tile=tile, mode=mode)
        threads = f", {torch.get_num_threads()} threads" if name == "cpu" else ""
        return Placed(
            model=model,
            numerics=numerics(
                digest=checkpoint.spec.digest, device=name, dtype=dtype, tile=model.tile, mode=mode
            ),
            device=f"{name} ({device_name(name)}{threads})",
            dtype=dtype,
        )

    def explain(self, error: Exception, doing: str) -> DeviceError | None:
        """See `Device.explain`."""
        from model.memory import Room, explain, is_shortage

        if not is_shortage(error):
            return None
        return DeviceError(
            explain(
                doing=doing,
                room=Room.on(self._name),
                models=self._models,
                tile=self._tile,
                dtype=self._dtype,
            )
        )

    def memory(self) -> int:
        """See `Device.memory`."""
        import torch

        return torch.cuda.memory_allocated() if self._name.startswith("cuda") else 0


def _names(device: str) -> tuple[str, ...]:
    import torch

    gpus = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    if device == "auto":
        return gpus or ("cpu",)
    if device != "cpu" and device not in gpus:
        raise DeviceError(f"there is no such device here, only {', '.join(('cpu', *gpus))}")
    return (device,)


def run(connection: Connection) -> int:
    """Does a worker's whole life; the process's exit status."""
    settings = connection.recv()
    pipe = Pipe(connection)
    try:
        device = _open(settings)
        pipe.send(Opened(device.names))
        placed = [_load(device, folder) for folder in settings.models]
        loaded = tuple(_test(device, one) for one in placed)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why there is no worker
        if not isinstance(error, CheckpointError | DeviceError):  # these say all there is to say
            traceback.print_exc()
        pipe.send(StartFailed(str(error) or type(error).__name__))
        pipe.close()
        return 1
    pipe.send(Ready(loaded))
    runners = {one.model.spec.id: Runner(one.model, settings.previews) for one in placed}
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


def _load(device: Device, folder: str) -> Placed:
    with _explained(device, f"while {Path(folder).name} was loaded"):
        return device.load(folder)


def _test(device: Device, placed: Placed) -> LoadedModel:
    with _explained(device, f"while {placed.model.spec.id} was tested"):
        exact = seed_exact(placed.model)
    return LoadedModel(
        spec=placed.model.spec,
        numerics=placed.numerics,
        seed_exact=exact,
        tile=placed.model.tile,
        device=placed.device,
        dtype=placed.dtype,
    )


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
    pipe, parent = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with(parent)
    faulthandler.enable()
    os.set_inheritable(pipe, False)
    status = run(Connection(pipe))
    sys.stderr.flush()
    os._exit(status)  # threads and device libraries must not delay the end


if __name__ == "__main__":
    main()
