"""Which images a folder has, and their captions, wherever people put them.

In this order: ``captions.jsonl``, ``metadata.jsonl`` or ``metadata.csv`` (as of Hugging Face's
imagefolder) in the folder itself or one below it, for what lies under it; a ``.txt`` or
``.caption`` beside an image; the name of the folder that it lies in, without the numbers of repeats
where all have one (``10_name``). Parquet files have images and captions in them. Folders are
followed where they are links; hidden folders and those of systems are not looked at, and those of
test and validation sets are left out.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.data import tables
from model.data.pictures import DataError

SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".avif", ".heic", ".heif"),
    }
)
TEXTS = (".txt", ".caption")
LISTINGS = ("captions.jsonl", "metadata.jsonl", "metadata.csv")
FILE = ("file", "file_name", "image")
CAPTION = tables.CAPTION
HIDDEN = "."
SYSTEM = (HIDDEN, "@", "__MACOSX")
"""What the names of folders begin with that no user has made."""

HELD_OUT = frozenset({"test", "val", "valid", "validation"})
TRAIN = frozenset({"train", "training"})
REPEATS = re.compile(r"\d+_(?=.)")
SPLIT = re.compile(r"(?:test|val|valid|validation|dev)(?![a-z])")
"""What the names of files with a split's images begin with."""

SILENT = frozenset({*TEXTS, ".json", ".jsonl", ".csv", ".md", ".html", ".ini", ".db", ".npz"})
"""Endings of files that nobody expects to be trained on."""

MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
RUN = "log.jsonl"
"""What the folder of a training run has: its sheets are no images to train on."""

NAMED = 3  # endings, or files, that a note lists


@dataclass(frozen=True, slots=True)
class Entry:
    """One image: a file, or a row of a table."""

    path: Path
    caption: str
    row: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.row is None else f"{self.path}, row {self.row}"


@dataclass(slots=True)
class Labelled:
    """Images with captions, and what a user should hear of how they were found."""

    images: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Files:
    """What lies in a folder and below it, each by its kind."""

    images: list[Path] = field(default_factory=list)
    texts: set[Path] = field(default_factory=set)
    listings: dict[Path, Path] = field(default_factory=dict)  # by folder
    tables: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)  # by ending
    held_out: int = 0  # images and tables


def check_folders(paths: Iterable[Path]) -> None:
    """Raises `DataError` for what is no folder."""
    for path in paths:
        if path.is_file():
            raise DataError(f"{path}: is a file; unpack it if it is an archive, and give a folder")
        if not path.is_dir():
            raise DataError(f"{path}: no such folder")


def find_labels(folder: Path) -> Labelled:
    """Raises `DataError` naming the file and line that is wrong."""
    files = _find(folder)
    found = Labelled()
    governed: dict[Path, list[Path]] = {}
    free: list[Path] = []
    for path in files.images:
        listing = next((files.listings[up] for up in path.parents if up in files.listings), None)
        (free if listing is None else governed.setdefault(listing, [])).append(path)
    for listing in files.listings.values():
        listed = list(_listed(listing))
        names = {entry.path for entry in listed}
        kept = [entry for entry in listed if not _held_out(entry.path, listing.parent)]
        found.images += kept
        files.held_out += len(listed) - len(kept)
        if left := [path for path in governed.get(listing, ()) if path not in names]:
            name = listing.relative_to(folder)
            found.notes.append(f"{len(left)} images are not in {name}, such as {left[0]}")
    found.images += _beside(folder, free, files.texts)
    for table in files.tables:
        captions = tables.read_captions(table)
        found.images += [Entry(table, text, row) for row, text in enumerate(captions)]
    if files.held_out:
        found.notes.append(
            f"{files.held_out} images or tables of test and validation sets are left out"
        )
    if files.others:
        endings = ", ".join(f"{end} {count}" for end, count in files.others.most_common(NAMED))
        found.notes.append(f"{files.others.total()} other files are left out ({endings})")
    return found


def _find(folder: Path) -> _Files:
    """Everything in the order of its path. A folder that links lead to again is read once."""
    files = _Files()
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen or RUN in names:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(SYSTEM))
        here = Path(place)
        held_out = _held_out(here / "any", folder)
        for name in sorted(names):
            if not name.startswith(HIDDEN):
                _sort_in(files, here / name, held_out)
    files.images.sort(key=lambda path: path.parts)
    return files


def _sort_in(files: _Files, path: Path, held_out: bool) -> None:
    ending = path.suffix.lower()
    if ending == tables.SUFFIX:
        if held_out or SPLIT.match(path.name.lower()):
            files.held_out += 1
        else:
            files.tables.append(path)
    elif ending in SUFFIXES or (ending not in SILENT and _is_image(path)):
        if held_out:
            files.held_out += 1
        else:
            files.images.append(path)
    elif ending in TEXTS:
        files.texts.add(path)
    elif path.name in LISTINGS and not held_out:
        known = files.listings.get(path.parent)
        if known is None or LISTINGS.index(path.name) < LISTINGS.index(known.name):
            files.listings[path.parent] = path
    elif ending not in SILENT:
        files.others[ending or "without an ending"] += 1


def _is_image(path: Path) -> bool:
    """By its first bytes, whatever it is called."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return head.startswith(MAGIC) or head[8:12] == b"WEBP" or head[4:12] == b"ftypavif"


def _held_out(path: Path, folder: Path) -> bool:
    *parts, _ = Path(os.path.relpath(path, folder)).parts
    return any(part.lower() in HELD_OUT for part in parts)


def _beside(folder: Path, paths: Iterable[Path], texts: set[Path]) -> Iterator[Entry]:
    names: dict[Path, str] = {}  # of the folder that an image is named by
    for path in paths:
        *parts, _ = path.relative_to(folder).parts
        own = [part for part in parts if part.lower() not in TRAIN]
        names[path] = own[-1] if own else ""
    if all(REPEATS.match(name) for name in names.values() if name):
        names = {path: REPEATS.sub("", name, count=1) for path, name in names.items()}
    for path, name in names.items():
        beside = next((one for end in TEXTS if (one := path.with_suffix(end)) in texts), None)
        caption = name.replace("_", " ") if beside is None else _text(beside)
        yield Entry(path, " ".join(caption.split()))


def _listed(listing: Path) -> Iterator[Entry]:
    text = _text(listing)
    rows = _csv_rows(text, listing) if listing.suffix == ".csv" else _json_rows(text, listing)
    for number, row in rows:
        name = next((row[key] for key in FILE if row.get(key)), None)
        given = [row[key] for key in CAPTION if key in row]
        if not isinstance(name, str) or not given or not isinstance(given[0], str | None):
            raise _wrong(listing, number, json.dumps(row, ensure_ascii=False))
        yield Entry(listing.parent / name, " ".join((given[0] or "").split()))


def _json_rows(text: str, listing: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _wrong(listing, number, line) from error
        if not isinstance(row, dict):
            raise _wrong(listing, number, line)
        yield number, row


def _csv_rows(text: str, listing: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{listing}, line {reader.line_num}: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not text in UTF-8: {error}") from error


def _wrong(listing: Path, number: int, line: str) -> DataError:
    return DataError(
        f'{listing}, line {number}: expected {{"file": "a.png", "caption": "…"}}, got {line[:80]!r}'
    )
