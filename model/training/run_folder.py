"""A run's folder, and how nothing that happens to the process can spoil it.

``log.jsonl``, ``run.json``, ``progress.html``, ``samples/``, ``checkpoint/`` (for
`model.registry.open_checkpoint`) and ``resume.pt``, which has all that the next start needs.
``data/`` has the images as they are trained on (`model.data.reading`), and they are read again
where it is gone. Each file is replaced as a whole.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from model.checkpoint import TOKENIZER, TRAINED
from model.data.pictures import PictureSet
from model.files import write_aside
from model.tokenizer import PromptTokenizer
from model.training.recipe import TrainingError

NAMES = {
    "batch": "--batch",
    "average": "--average",
    "seed": "--seed",
    "network.image_size": "--size",
    "network.patch_size": "--patch",
    "network.channels": "--channels",
    "network.width": "--width",
    "network.depth": "--depth",
    "network.detail_width": "--detail-width",
    "network.polish_channels": "--polish-channels",
    "network.text.vocabulary": "--vocabulary",
}
"""What the command line calls them; the rest has the names of the code."""

DATA = "data"
"""What a run's configuration calls its images and captions; absent from older runs."""


@dataclass(frozen=True, slots=True)
class DataIdentity:
    """Which data a run has."""

    images: int
    fingerprint: str

    @classmethod
    def of(cls, data: PictureSet) -> DataIdentity:
        return cls(len(data), data.fingerprint)


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / TRAINED
        self.log = path / "log.jsonl"
        self.data = path / "data"
        self._resume = path / "resume.pt"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps other processes out of it. Raises `TrainingError`.

        An empty one is not left behind.
        """
        lock = self.path / "lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            number = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise TrainingError(f"{self.path}: {error.strerror}") from error
        try:
            if not _lock(number):
                process = os.read(number, 20).decode(errors="replace").strip()
                raise TrainingError(
                    f"{self.path}: process {process} trains here; wait for its end, or give "
                    "another --out"
                )
            os.truncate(number, 0)
            os.write(number, f"{os.getpid()}\n".encode())
            try:
                yield
            finally:
                if list(self.path.iterdir()) == [lock]:
                    lock.unlink()
                    self.path.rmdir()
        finally:
            os.close(number)

    def load(self) -> dict[str, Any] | None:
        """What was saved; None for a run that has not begun. Raises `TrainingError`."""
        if not self._resume.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._resume, map_location="cpu", weights_only=True)
            return {**state, "config": json.loads(state["config"])}
        except Exception as error:  # whatever a broken file makes of the reader
            text = (str(error) or type(error).__name__).splitlines()[0]
            raise TrainingError(
                f"{self._resume}: cannot be read ({text}). Put back a copy of it, or remove it to "
                f"begin again; --init {self.checkpoint} and another --out keep what was learned"
            ) from error

    def save(self, state: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Raises ``OSError`` and what torch makes of it."""
        kept = {**state, "config": json.dumps(config)}
        write_aside(self._resume, lambda part: torch.save(kept, part))

    def tokenizer(self, state: Mapping[str, Any]) -> PromptTokenizer:
        """The run's own. Older ones have it in their checkpoint only. Raises `TrainingError`."""
        if text := state.get("tokenizer"):
            return PromptTokenizer.from_json(text)
        path = self.checkpoint / TOKENIZER
        try:
            return PromptTokenizer.load(path)
        except Exception as error:  # tokenizers raises nothing narrower
            raise TrainingError(f"{path}: {error}; the run cannot go on without it") from error

    def describe(self, facts: Mapping[str, Any]) -> None:
        """``run.json``: how the run is and what it is made with, for programs."""
        text = json.dumps(facts, indent=2) + "\n"
        write_aside(self.path / "run.json", lambda part: part.write_text(text, encoding="utf-8"))

    def append(self, line: Mapping[str, Any]) -> None:
        """To the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def cut_log(self, step: int) -> None:
        """Leaves out what came after ``step``, and lines that are none."""
        lines: dict[int, str] = {}
        if self.log.exists():
            for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    number = int(json.loads(line)["step"])
                except (ValueError, KeyError, TypeError):
                    continue
                if number <= step:
                    lines[number] = f"{line}\n"
        text = "".join(lines[number] for number in sorted(lines))
        write_aside(self.log, lambda part: part.write_text(text, encoding="utf-8"))

    def losses(self) -> list[Mapping[str, Any]]:
        """The log's lines."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A disk that does not take it becomes a `TrainingError`."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            free = shutil.disk_usage(self.path).free / 1e6
            text = (str(error) or type(error).__name__).splitlines()[0]
            raise TrainingError(
                f"{self.path}: not saved: {text} ({free:,.0f} MB are free). What was saved before "
                "is whole; the same command goes on from there"
            ) from error


def identity(data: PictureSet) -> dict[str, Any]:
    """Of the data, for a run's configuration."""
    return {DATA: asdict(DataIdentity.of(data))}


def changed(asked: Mapping[str, Any], had: Mapping[str, Any]) -> list[str]:
    """What a run would go on with that it did not begin with, each with both values.

    What an older run does not know was off then.
    """
    now, then = _flat(json.loads(json.dumps(asked))), _flat(had)
    return [
        f"{NAMES.get(name, name)} ({then.get(name, 'none')}, now {value})"
        for name, value in now.items()
        if (value != then[name] if name in then else value)
    ]


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """By dotted names."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _lock(number: int) -> bool:
    """Whether no other process has it. The system frees it when a process ends, however it does."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
