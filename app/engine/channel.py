"""A worker process and the pipe to it, as the event loop sees them: nothing here blocks the loop.

Two threads do what may block. One writes what `send` queued, one reads and hands each message to
the loop, waiting while the loop has fallen behind. A worker that is stopped with a full pipe holds
up its own threads and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from app.engine.messages import FromWorker, Stop, ToWorker, WorkerSettings

AHEAD = 256  # messages that wait for the pipe, far more than a live worker leaves there
BEHIND = 32  # messages read and not yet seen by the loop


class Channel:
    """Starts a worker; must be made on the running event loop, where both callbacks are called.

    ``on_message`` hears everything that the worker said, also just before its death; then
    ``on_end`` is told its exit status, once (negative: the signal that ended it).
    """

    def __init__(
        self,
        settings: WorkerSettings,
        on_message: Callable[[FromWorker], None],
        on_end: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_end = on_end
        self._room = threading.Semaphore(BEHIND)
        self._outbox: queue.Queue[ToWorker] = queue.Queue(AHEAD)
        self._process, self._connection = _spawn(settings)
        self.send(settings)
        self._writer = threading.Thread(
            target=self._write, name=f"to-worker-{self.pid}", daemon=True
        )
        reader = threading.Thread(target=self._read, name=f"of-worker-{self.pid}", daemon=True)
        self._writer.start()
        reader.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def send(self, message: ToWorker) -> None:
        """Queues a message; a worker that has not taken hundreds of them is killed."""
        try:
            self._outbox.put_nowait(message)
        except queue.Full:
            self.kill()

    def kill(self) -> None:
        """Ends the process at once, stopped or not. Idempotent; ``on_end`` follows."""
        self._process.kill()

    def _write(self) -> None:
        try:
            while True:
                message = self._outbox.get()
                self._connection.send(message)
                if isinstance(message, Stop):
                    return
        except OSError:
            return  # the reader meets the same end, and tells of it

    def _read(self) -> None:
        try:
            while True:
                message = self._connection.recv()
                self._room.acquire()
                self._loop.call_soon_threadsafe(self._hand_over, message)
        except (EOFError, OSError):
            pass
        except RuntimeError:  # the loop is closed: nobody listens any longer
            self.kill()
        status = self._process.wait()
        with contextlib.suppress(queue.Full):  # where it is full, a broken pipe ends the writer
            self._outbox.put_nowait(Stop())
        self._writer.join()
        self._connection.close()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_end, status)

    def _hand_over(self, message: FromWorker) -> None:
        self._room.release()
        self._on_message(message)


def _spawn(settings: WorkerSettings) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": str(settings.threads),
    }
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.engine.worker", str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C at a terminal is for the parent alone
        )
    return process, Connection(ours.detach())


def describe_end(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
