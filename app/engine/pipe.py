"""The worker's end of the pipe: neither reading nor writing stops its loop.

A thread that reads, a thread that writes, bounded queues between. The pipe's end is the parent's
end, and then this process's.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection

from app.engine.messages import FromWorker, Stepped, ToWorker

BACKLOG = 64  # messages that wait for the pipe; more, and the worker waits too


class Pipe:
    """Takes over a connection; `app.engine.channel` has the other end."""

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
