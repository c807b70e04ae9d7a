"""Which images a folder has, and their captions, wherever people put them.

In this order: ``captions.jsonl``, ``metadata.jsonl`` or ``metadata.csv`` (as of Hugging Face's
imagefolder) in the folder itself; a ``.txt`` beside an image; the name of the folder that it lies
in, under ``train`` where there is one, without the numbers of repeats where all have one
(``10_name``).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.data.pictures import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
LISTINGS = ("captions.jsonl", "metadata.jsonl", "metadata.csv")
FILE = ("file", "file_name")
CAPTION = ("caption", "text", "prompt")
SYSTEM = (".", "@", "__MACOSX")
"""What the names of folders begin with that no user has made."""

HELD_OUT = frozenset({"test", "val", "valid", "validation"})
REPEATS = re.compile(r"\d+_(?=.)")


@dataclass(slots=True)
class Labelled:
    """Images with captions, and what a user should hear of how they were found."""

    images: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_labels(folder: Path) -> Labelled:
    """Raises `DataError` naming the file and line that is wrong."""
    paths = [path for path in sorted(folder.rglob("*")) if _is_candidate(path, folder)]
    for name in LISTINGS:
        if (folder / name).is_file():
            found = Labelled(list(_listed(folder / name)))
            listed = {path for path, _ in found.images}
            if left := [path for path in paths if path not in listed]:
                found.notes.append(f"{len(left)} images are not in {name}, such as {left[0]}")
            break
    else:
        found = _unlisted(folder, paths)
    if blank := sum(not caption for _, caption in found.images):
        found.notes.append(f"{blank} of {len(found.images)} images have no caption")
    return found


def _is_candidate(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return (
        path.suffix.lower() in SUFFIXES
        and not any(part.startswith(SYSTEM) for part in parts)
        and path.is_file()
    )


def _unlisted(folder: Path, paths: list[Path]) -> Labelled:
    names: dict[Path, str] = {}  # of the folder that an image is named by
    for path in paths:
        *parts, _ = path.relative_to(folder).parts
        if parts and parts[0].lower() == "train":
            parts = parts[1:]
        names[path] = parts[0] if parts else ""
    held_out = [path for path in paths if path.relative_to(folder).parts[0].lower() in HELD_OUT]
    for path in held_out:
        del names[path]
    if all(REPEATS.match(name) for name in names.values()):
        names = {path: REPEATS.sub("", name, count=1) for path, name in names.items()}
    found = Labelled()
    for path, name in names.items():
        beside = path.with_suffix(".txt")
        caption = _text(beside) if beside.is_file() else name.replace("_", " ")
        found.images.append((path, " ".join(caption.split())))
    if held_out:
        found.notes.append(f"{len(held_out)} images in test or validation folders are left out")
    return found


def _listed(listing: Path) -> Iterator[tuple[Path, str]]:
    text = _text(listing)
    rows = _csv_rows(text) if listing.suffix == ".csv" else _json_rows(text, listing)
    for number, row in rows:
        name = next((row[key] for key in FILE if row.get(key)), None)
        given = [row[key] for key in CAPTION if key in row]
        if not isinstance(name, str) or not given or not isinstance(given[0], str | None):
            raise _wrong(listing, number, json.dumps(row, ensure_ascii=False))
        yield listing.parent / name, " ".join((given[0] or "").split())


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


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        yield reader.line_num, row


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not text in UTF-8: {error}") from error


def _wrong(listing: Path, number: int, line: str) -> DataError:
    return DataError(
        f'{listing}, line {number}: expected {{"file": "a.png", "caption": "…"}}, got {line[:80]!r}'
    )
