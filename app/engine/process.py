"""A worker process and the pipe to it. Neither end's loop ever waits for the pipe.

Each end has a thread that writes what was queued and one that reads, with bounded queues between:
a worker that is stopped with a full pipe holds up two threads and nothing else. A thread that ends
for any reason ends the process, which is then replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import NamedTuple

from app.engine.messages import FromWorker, Stepped, Stop, ToWorker, WorkerSettings
from model.cores import quota
from model.runtime.waiting import settled

AHEAD = 256  # messages that wait for the worker, far more than a live one leaves there
BEHIND = 32  # messages read and not yet seen by the parent's loop
BACKLOG = 64  # messages that wait for the parent; more, and the worker waits too

SHORT_OF_TIME = 10_000
"""Rounds of libgomp's loop for which a thread waits awake where a quota allows less CPU time than
the threads could use. Sleeping leaves that to nobody, and costs more of it than so short a wait;
and a thread that sleeps between kernels may be woken on the core of the one that waits for it."""

log = logging.getLogger(__name__)


class WorkerProcess:
    """The parent's end: starts a worker. Belongs to the running event loop.

    Both callbacks run on the loop: ``on_message`` gets everything that the worker sent, also just
    before its death; then ``on_end`` gets its exit status, once (negative: the signal that ended
    it).

    Raises ``OSError`` or ``RuntimeError`` where there is no memory, process, file or thread left.
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
        threads = settings.engine.threads or 1
        spawned = _ahead.pop(threads) if threads in _ahead else _spawn(threads)
        self._process, self._connection = spawned
        self.send(settings)
        self._writer = threading.Thread(
            target=self._write, name=f"to-worker-{self.pid}", daemon=True
        )
        reader = threading.Thread(target=self._read, name=f"from-worker-{self.pid}", daemon=True)
        try:
            self._writer.start()
            reader.start()
        except RuntimeError:
            self._close()
            raise

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
        except OSError:  # the worker is gone
            self.kill()
        except Exception:
            log.exception("writing to the worker failed")
            self.kill()

    def _read(self) -> None:
        try:
            while True:
                message = self._connection.recv()
                self._room.acquire()
                self._loop.call_soon_threadsafe(self._hand_over, message)
        except (EOFError, OSError):  # the worker is gone
            pass
        except Exception:
            if not self._loop.is_closed():
                log.exception("reading from the worker failed")
        finally:
            status = self._close()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._on_end, status)

    def _close(self) -> int:
        """Waits for the process's end and closes the pipe; its exit status."""
        self.kill()  # changes nothing where it ends by itself: its status is settled by then
        status = self._process.wait()
        with contextlib.suppress(queue.Full):  # where it is full, a broken pipe ends the writer
            self._outbox.put_nowait(Stop())
        if self._writer.ident is not None:
            self._writer.join()
        self._connection.close()
        return status

    def _hand_over(self, message: FromWorker) -> None:
        self._room.release()
        self._on_message(message)


class Spawned(NamedTuple):
    """A process that waits for a worker's settings."""

    process: subprocess.Popen[bytes]
    connection: Connection


_ahead: dict[int, Spawned] = {}
"""By their threads, of which libraries read the number as they are loaded."""


def spawn_ahead(threads: int) -> None:
    """Starts the process of the next worker with so many threads. It loads torch while this one
    loads what it needs itself; that there is one changes nothing else. Raises ``OSError``."""
    _ahead[threads] = _spawn(threads, "torch")


def _spawn(threads: int, *modules: str) -> Spawned:
    """A process that loads ``modules`` before it asks for its settings."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            # -P: what the parent imported, whatever package "app" the working directory has.
            [
                sys.executable,
                "-P",
                "-m",
                "app.engine.worker",
                str(theirs.fileno()),
                str(os.getpid()),
                *modules,
            ],
            stdin=subprocess.DEVNULL,
            env=environment(threads, os.environ),
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C at a terminal is for the parent alone
        )
        return Spawned(process, Connection(ours.detach()))


def environment(threads: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """A worker's variables: what it inherits, and what its libraries read once they are loaded."""
    return {
        **inherited,
        **wait_variables(threads, inherited),
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),  # "" is here
        "OMP_NUM_THREADS": str(threads),
    }


def wait_variables(threads: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """What is to be added to the variables that a worker inherits, so that OpenMP's threads wait
    awake for the next kernel as long as is best; nothing where those settle it.

    With libgomp that changes while they run, see `model.runtime.waiting`, but under a quota of CPU
    time. The libraries of LLVM and Intel wait for 200 ms if nothing else is said.
    """
    if settled(inherited):
        return {}
    allowed = quota()
    short = allowed is not None and allowed < threads
    wanted = {"KMP_BLOCKTIME": "1", **({"GOMP_SPINCOUNT": str(SHORT_OF_TIME)} if short else {})}
    return {name: text for name, text in wanted.items() if name not in inherited}


def describe_end(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


class Pipe:
    """The worker's end. The pipe's end is the parent's end, and then this process's."""

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
        """Queues a message. Where the parent is slow, previews are dropped; the rest waits."""
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
        with _ending_the_process():
            while True:
                self._inbox.put(self._connection.recv())

    def _write(self) -> None:
        with _ending_the_process():
            while (message := self._outbox.get()) is not None:
                self._connection.send(message)


@contextlib.contextmanager
def _ending_the_process() -> Iterator[None]:
    """An exception ends this process, in whichever thread it is raised."""
    try:
        yield
    except (EOFError, OSError):  # the parent is gone
        os._exit(0)
    except Exception:  # noqa: BLE001 - the parent can no longer be heard or reached
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
