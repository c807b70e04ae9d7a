"""Captioned emoji in several styles: ``<style folder>/images.zip`` and ``captions.jsonl``.

These are held out, and never trained on:

* ``sha256(base) mod 10 = 0``: the Fluent images of that symbol, all skin tones; its Noto
  counterpart stays in training, so the held-out figure asks whether a style carries over;
* ``sha256(codepoints) mod 10 = 1``: toned symbols, in both styles;
* an image equal to another (``duplicate_of``) follows that one.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import emoji as unicode_emoji
import numpy as np
from PIL import Image

from model.data.pictures import DataError, PictureFormat, PictureSet

Split = Literal["train", "held-out style", "held-out tone"]
CHINESE_STYLE = {"noto": "noto 风格", "fluent 3d": "fluent 3d 风格"}


@dataclass(frozen=True, slots=True)
class Emoji:
    """One image's record, as in ``captions.jsonl``."""

    folder: Path
    file: str
    codepoints: str
    name: str
    keywords: tuple[str, ...]
    toned: bool
    base: str
    style: str
    duplicate_of: str | None
    chinese: str | None

    @property
    def caption(self) -> str:
        """Name and style: the prompt that scores are measured with."""
        return f"{self.name}, {self.style} style"

    @property
    def split(self) -> Split:
        """Which side of the hold-out an image that duplicates no other is on."""
        if self.style == "fluent 3d" and _bucket(self.base) == 0:
            return "held-out style"
        if self.toned and _bucket(self.codepoints) == 1:
            return "held-out tone"
        return "train"

    def prompt(self, draw: random.Random) -> str:
        """A prompt for training: the caption half the time, else one of the ways people write."""
        kind = draw.random()
        if kind < 0.20 and self.chinese:
            return f"{self.chinese}，{CHINESE_STYLE[self.style]}"
        if kind < 0.25 and self.chinese:
            return self.chinese
        if kind < 0.37 and self.keywords:
            words = draw.sample(self.keywords, min(len(self.keywords), draw.randint(1, 4)))
            return f"{', '.join(words)}, {self.style} style"
        text = self.name
        if 0.37 <= kind < 0.44 and not text.startswith(("keycap", "a ", "an ")):
            text = f"{'an' if text[0].lower() in 'aeiou' else 'a'} {text}"
        if 0.44 <= kind < 0.51:
            return text
        return f"{text}, {self.style} style"


def _bucket(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10


def _chinese_names() -> dict[str, str]:
    """Simplified Chinese names by code points (without fe0f), from the ``emoji`` package."""
    unicode_emoji.config.load_language("zh")
    names = {}
    for text, entry in unicode_emoji.EMOJI_DATA.items():
        if "zh" in entry:
            key = "_".join(f"{ord(c):04x}" for c in text if c != "\ufe0f")
            names[key] = entry["zh"].strip(":").replace("_", " ")
    return names


def read_records(folders: Iterable[Path]) -> list[Emoji]:
    """The records of all style folders. Raises `DataError` naming what is missing."""
    folders = list(folders)
    for folder in folders:
        for name in ("captions.jsonl", "images.zip"):
            if not (folder / name).is_file():
                raise DataError(f"{folder / name}: missing; an emoji set has both")
    chinese = _chinese_names()
    return [
        Emoji(
            folder=folder,
            file=row["file"],
            codepoints=row["codepoints"],
            name=row["name"],
            keywords=tuple(row["keywords"]),
            toned=row["skin_tone"] is not None,
            base=row["base"],
            style=row["style"],
            duplicate_of=row.get("duplicate_of"),
            chinese=chinese.get(row["codepoints"]),
        )
        for folder in folders
        for row in map(json.loads, (folder / "captions.jsonl").read_text("utf-8").splitlines())
    ]


def read_pictures(records: Iterable[Emoji]) -> Iterator[Image.Image]:
    """The records' images, RGBA, in order. Raises `DataError` naming a broken one."""
    archives: dict[Path, zipfile.ZipFile] = {}
    with ExitStack() as stack:
        for record in records:
            path = record.folder / "images.zip"
            try:
                if path not in archives:
                    archives[path] = stack.enter_context(zipfile.ZipFile(path))
                data = archives[path].read(record.file)
                yield Image.open(io.BytesIO(data)).convert("RGBA")
            except (OSError, KeyError, zipfile.BadZipFile) as error:
                raise DataError(f"{path}: {record.file}: {error}") from error


def select(records: Iterable[Emoji], split: Split) -> list[Emoji]:
    """The records of one side of the hold-out."""
    records = list(records)
    own = {(record.style, record.file): record.split for record in records}
    return [r for r in records if own[r.style, r.duplicate_of or r.file] == split]


def load(folders: Iterable[Path], form: PictureFormat, split: Split = "train") -> PictureSet:
    """One side of the hold-out. Raises `DataError`."""
    records = select(read_records(folders), split)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    pictures = np.empty((len(records), form.channels, form.size, form.size), dtype=np.uint8)
    for index, (record, picture) in enumerate(zip(records, read_pictures(records), strict=True)):
        pictures[index] = form.pixels(picture)
        groups[record.style, record.base].append(index)
    return PictureSet(
        name="emoji",
        pictures=pictures,
        captions=[record.caption for record in records],
        prompters=[record.prompt for record in records],
        groups=list(groups.values()),
    )
