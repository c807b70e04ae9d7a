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
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from app.engine.batcher import next_turn
from app.engine.device import Device, Placed
from app.engine.messages import (
    Admit,
    Beat,
    Cancel,
    FromWorker,
    Left,
    Opened,
    Ready,
    StartFailed,
    Stepped,
    Stop,
    ToWorker,
    Watch,
    WorkerSettings,
)
from app.engine.runner import Runner
from app.engine.selftest import seed_exact
from model.checkpoint import CheckpointError
from model.protocol import LoadedModel

BEAT = 1.0  # seconds between signs of life while there is nothing to do
BACKLOG = 64  # messages that wait for the pipe; more, and the worker waits too

DEFAULT_TILE = {"cpu": 8, "cuda": 32}


class Pipe:
    """The worker's end: a thread that reads, a thread that writes, bounded queues between.

    The pipe's end is the parent's end, and then this process's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox: queue.Queue[ToWorker] = queue.Queue(BACKLOG)
        self._outbox: queue.Queue[FromWorker | None] = queue.Queue(BACKLOG)
        self._writer = threading.Thread(target=self._write, name="pipe-writer", daemon=True)
        threading.Thread(target=self._read, name="pipe-reader", daemon=True).start()
        self._writer.start()

    def receive(self, timeout: float) -> Iterator[ToWorker]:
        """All that has come; waits up to ``timeout`` seconds for the first."""
        try:
            yield self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait()
            while True:
                yield self._inbox.get_nowait()
        except queue.Empty:
            return

    def send(self, message: FromWorker) -> None:
        """Queues a message. Where the parent is slow, previews give way; the rest waits for it."""
        if isinstance(message, Stepped) and self._outbox.full():
            message = replace(message, previewed=())
        self._outbox.put(message)

    def close(self, timeout: float = 1.0) -> None:
        """Waits until all is written, but not for a parent that does not read."""
        try:
            self._outbox.put(None, timeout=timeout)
        except queue.Full:
            return
        self._writer.join(timeout)

    def _read(self) -> None:
        try:
            while True:
                self._inbox.put(self._connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    def _write(self) -> None:
        try:
            while (message := self._outbox.get()) is not None:
                self._connection.send(message)
        except OSError:
            os._exit(0)


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
        import torch

        self.names = _names(settings.device)
        self._name = self.names[0]
        self._settings = settings
        torch.set_num_threads(settings.threads)
        torch.backends.cudnn.benchmark = False
        if self._name.startswith("cuda"):
            torch.cuda.set_device(self._name)
            torch.use_deterministic_algorithms(True)

    def load(self, folder: str) -> Placed:
        """See `Device.load`."""
        import torch

        from model.checkpoint import Checkpoint, load_model, resolve_dtype
        from model.numerics import device_name, numerics

        name = self._name
        dtype = resolve_dtype(self._settings.dtype, name)
        tile = self._settings.tile or DEFAULT_TILE[name.partition(":")[0]]
        checkpoint = Checkpoint.open(Path(folder))
        try:
            model = load_model(checkpoint, device=name, dtype=dtype, tile=tile)
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"{name} has no room for {checkpoint.spec.id}: "
                "fewer models, a smaller tile or dtype bf16 need less memory"
            ) from error
        threads = f", {torch.get_num_threads()} threads" if name == "cpu" else ""
        return Placed(
            model=model,
            numerics=numerics(digest=checkpoint.spec.digest, device=name, dtype=dtype, tile=tile),
            device=f"{name} ({device_name(name)}{threads})",
            dtype=dtype,
        )

    def memory(self) -> int:
        """See `Device.memory`."""
        import torch

        return torch.cuda.memory_allocated() if self._name.startswith("cuda") else 0


def _names(device: str) -> tuple[str, ...]:
    import torch

    if device != "auto":
        return (device,)
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("cpu",)


def run(connection: Connection) -> int:
    """Does a worker's whole life; the process's exit status."""
    settings = connection.recv()
    pipe = Pipe(connection)
    try:
        device = _open(settings)
        pipe.send(Opened(device.names))
        placed = [device.load(folder) for folder in settings.models]
        loaded = tuple(_test(one) for one in placed)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why there is no worker
        if not isinstance(error, CheckpointError | MemoryError):  # these say all there is to say
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


def _test(placed: Placed) -> LoadedModel:
    return LoadedModel(
        spec=placed.model.spec,
        numerics=placed.numerics,
        seed_exact=seed_exact(placed.model),
        tile=placed.model.tile,
        device=placed.device,
        dtype=placed.dtype,
    )


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
