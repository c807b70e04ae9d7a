"""Many images, each decoded and resized at once, into one array that need not fit in memory.

Threads decode, as Pillow works outside Python's lock. What they make is written to a file that is
mapped into memory, so that the system keeps of it what there is room for, and that the next start
opens instead of reading the images again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from model.cores import cores
from model.data.pictures import DataError, PictureFormat
from model.files import write_aside

Pixels = NDArray[np.uint8]
Job = Callable[[], Pixels]
"""Gives one image as `PictureFormat.pixels` does, or raises `Unusable`."""

Report = Callable[[int, int], None]
"""Is called with how many images are done, and of how many."""

VERSION = 1  # of how images are decoded and resized: another one is no hit in the cache
THREADS = 16  # at most: each holds one decoded image
AHEAD = 4  # images under way for each thread


class Unusable(Exception):
    """Why an image is left out. ``str()`` goes behind its name."""


@dataclass(frozen=True, slots=True)
class Images:
    """What was read."""

    pictures: Pixels  # [N, C, H, W]
    kept: list[int]  # the position of each among all
    skipped: dict[int, str]  # why, by position


def silent(done: int, total: int) -> None:
    """Reports nothing."""


def key_of(form: PictureFormat, identities: Iterable[str]) -> str:
    """Names images in a format: hexadecimal. An identity changes when its image does."""
    total = hashlib.sha256(json.dumps([VERSION, asdict(form)]).encode())
    for identity in identities:
        total.update(identity.encode(errors="surrogatepass") + b"\0")
    return total.hexdigest()


def file_identity(path: Path) -> str:
    """Of a file as it is now, without reading it."""
    try:
        status = path.stat()
    except OSError:
        return f"{path}\0-"
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}"


def read_all(
    jobs: Iterable[Job],
    count: int,
    form: PictureFormat,
    key: str,
    cache: Path | None = None,
    report: Report = silent,
) -> Images:
    """The images of ``count`` jobs, in order.

    With a folder as ``cache`` they are kept there under ``key``, and taken from there. Raises
    `DataError` where that has no room, and whatever else a job raises.
    """
    if cache is None:
        whole = bytearray()
        kept, skipped = _fill(jobs, count, whole.extend, report)
        return Images(_shaped(np.frombuffer(whole, np.uint8), form), kept, skipped)
    return _Cache(cache, form, key).read(jobs, count, report)


def _shaped(values: Pixels, form: PictureFormat) -> Pixels:
    return values.reshape(-1, form.channels, form.size, form.size)


def _fill(
    jobs: Iterable[Job], count: int, take: Callable[[bytes], object], report: Report
) -> tuple[list[int], dict[int, str]]:
    kept, skipped = [], {}
    report(0, count)
    for position, result in enumerate(_in_order(jobs)):
        if isinstance(result, Unusable):
            skipped[position] = str(result)
        else:
            take(result.tobytes())
            kept.append(position)
        report(position + 1, count)
    return kept, skipped


def _in_order(jobs: Iterable[Job]) -> Iterator[Pixels | Unusable]:
    """Each job's result as soon as those before it are there; few are under way at once."""
    threads = min(THREADS, cores())
    waiting: deque[Future[Pixels]] = deque()
    pool = ThreadPoolExecutor(threads, "images")
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > AHEAD * threads:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[Pixels]) -> Pixels | Unusable:
    try:
        return future.result()
    except Unusable as error:
        return error


def is_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file still lies there: others may have renamed or removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class _Cache:
    """``images.u8``, the pixels of one image behind those of another, and ``images.json``."""

    def __init__(self, folder: Path, form: PictureFormat, key: str) -> None:
        self._folder = folder
        self._form = form
        self._key = key
        self._pixels = folder / "images.u8"
        self._index = folder / "images.json"

    def read(self, jobs: Iterable[Job], count: int, report: Report) -> Images:
        if found := self._find():
            return found
        try:
            with self._filling() as file:
                if file is not None:
                    self._check_room(count)
                    kept, skipped = _fill(jobs, count, file.write, report)
                    if not kept:
                        return Images(_shaped(np.empty(0, np.uint8), self._form), kept, skipped)
                    self._finish(file, kept, skipped)
        except OSError as error:
            free = shutil.disk_usage(self._folder).free / 1e6
            raise DataError(
                f"{self._pixels}: not written: {error.strerror} ({free:,.0f} MB are free)"
            ) from error
        found = self._find()
        if found is None:
            raise DataError(f"{self._pixels}: was replaced while it was read; try again")
        return found

    def _find(self) -> Images | None:
        try:
            index = json.loads(self._index.read_bytes())
            kept = [int(position) for position in index["kept"]]
            skipped = {int(position): str(why) for position, why in index["skipped"].items()}
            each = self._form.channels * self._form.size**2
            if index["key"] != self._key or self._pixels.stat().st_size != each * len(kept):
                return None
            # Copied where it is written to, which it never is: torch wants an array that can be.
            values = np.memmap(self._pixels, np.uint8, "c")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Images(_shaped(values, self._form), kept, skipped)

    def _check_room(self, count: int) -> None:
        needed = count * self._form.channels * self._form.size**2
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DataError(
                f"{self._pixels}: {count} images take {needed / 1e6:,.0f} MB, "
                f"{free / 1e6:,.0f} MB are free"
            )

    @contextmanager
    def _filling(self) -> Iterator[BinaryIO | None]:
        """A file to fill, for this process alone; None where another one has done so meanwhile."""
        part = self._pixels.with_name(f"{self._pixels.name}.part")
        made = not self._folder.exists()
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = part.open("ab+")
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(part, file):
                break
            file.close()  # the file of a process that has finished
        with file:
            if self._find():
                part.unlink()
                yield None
                return
            try:
                file.truncate(0)
                yield file
            finally:
                # Renamed by now if all went well; then another's may lie there.
                if is_at(part, file):
                    part.unlink()
                if made and not any(self._folder.iterdir()):
                    self._folder.rmdir()

    def _finish(self, file: BinaryIO, kept: list[int], skipped: dict[int, str]) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._index.unlink(missing_ok=True)  # it is of the pixels that go now
        Path(file.name).replace(self._pixels)
        index = json.dumps({"key": self._key, "kept": kept, "skipped": skipped})
        write_aside(self._index, lambda path: path.write_text(index, encoding="utf-8"))
