"""Captioned emoji in many styles: ``<style folder>/images.zip`` and ``captions.jsonl``.

A folder with ``words.jsonl.gz`` beside them adds what a symbol is called in other languages and
words (`model.data.wording`). These are held out, and never trained on:

* ``sha256(base) mod 10 = 0``: the Fluent images of that symbol, in all looks and skin tones; its
  counterparts in other styles stay in training, so the held-out figure asks whether a style
  carries over;
* ``sha256(style + ":" + base) mod 20 = 0``: the symbol in that style, in all skin tones, where the
  style has more than 1,000 symbols. The looks of Fluent are one drawing, so they count as one
  style, "fluent": what is held out of one is held out of all;
* ``sha256(codepoints) mod 10 = 1``: toned symbols, in all styles;
* an image equal to another (``duplicate_of``) follows that one.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import emoji as unicode_emoji
from PIL import Image

from model.data.pictures import DataError, PictureFormat, PictureSet
from model.data.prompts import prompt_for
from model.data.reading import Pixels, Report, file_identity, key_of, read_all, silent
from model.data.wording import (
    WORDS,
    Descriptions,
    Wording,
    means_another,
    read_descriptions,
    read_meanings,
    read_wordings,
)

Split = Literal["train", "held-out style", "held-out tone"]

ARCHIVE = "images.zip"
CAPTIONS = "captions.jsonl"

CHINESE_STYLE = {
    "noto": "noto 风格",
    "fluent 3d": "fluent 3d 风格",
    "twemoji": "twemoji 风格",
    "fluent flat": "fluent 扁平风格",
    "fluent color": "fluent 彩色风格",
    "fluent mono": "fluent 单色风格",
    "blob": "blob 风格",
    "emojitwo": "emojitwo 风格",
    "fxemoji": "fxemoji 风格",
    "noto mono": "noto 单色风格",
    "pixel": "像素风格",
    "streamline": "streamline 风格",
    "sensa": "sensa 风格",
    "circle flag": "圆形旗帜风格",
    "flat flag": "平面旗帜风格",
}
"""Each style, as its records name it, and what Chinese prompts call it."""

FLUENT = frozenset({"fluent 3d", "fluent flat", "fluent color", "fluent mono"})
"""One drawing in four looks."""

LARGE = frozenset({*FLUENT, "noto", "twemoji", "blob", "emojitwo", "noto mono", "pixel"})
"""Styles of more than 1,000 symbols."""


@dataclass(frozen=True, slots=True)
class Emoji:
    """One image's record, as in ``captions.jsonl``."""

    folder: Path
    file: str
    codepoints: str
    name: str
    keywords: tuple[str, ...]
    tones: tuple[str, ...]  # skin tones: "light", or two for a pair
    base: str
    style: str
    duplicate_of: str | None
    chinese: str | None
    wording: Wording | None = None
    descriptions: Descriptions = field(default_factory=dict)
    meanings: tuple[str, ...] = ()  # what by itself means this symbol rather than another
    telling: tuple[str, ...] = ()  # keywords that do not mean another one by themselves
    synthetic: bool = False  # drawn by `tools.counterparts`, and no real image

    @property
    def toned(self) -> bool:
        return bool(self.tones)

    @property
    def caption(self) -> str:
        """Name and style: the prompt that scores are measured with."""
        return f"{self.name}, {self.style} style"

    @property
    def chinese_style(self) -> str:
        """What Chinese prompts call its style."""
        return CHINESE_STYLE.get(self.style, f"{self.style} 风格")

    @property
    def split(self) -> Split:
        """Which side of the hold-out an image that duplicates no other is on."""
        if self.synthetic:
            return "train"
        fluent = self.style in FLUENT
        if fluent and _bucket(self.base, 10) == 0:
            return "held-out style"
        drawing = "fluent" if fluent else self.style
        if self.style in LARGE and _bucket(f"{drawing}:{self.base}", 20) == 0:
            return "held-out style"
        if self.toned and _bucket(self.codepoints, 10) == 1:
            return "held-out tone"
        return "train"


def _bucket(key: str, buckets: int) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % buckets


def _chinese_names() -> dict[str, str]:
    """Simplified Chinese names by code points (without fe0f), from the ``emoji`` package."""
    unicode_emoji.config.load_language("zh")
    names = {}
    for text, entry in unicode_emoji.EMOJI_DATA.items():
        if "zh" in entry:
            key = "_".join(f"{ord(c):04x}" for c in text if c != "\ufe0f")
            names[key] = entry["zh"].strip(":").replace("_", " ")
    return names


def is_set(folder: Path) -> bool:
    """Whether emoji, or words for them, lie there."""
    return (folder / ARCHIVE).is_file() or (folder / WORDS).is_file()


def read_records(folders: Iterable[Path]) -> list[Emoji]:
    """The records of all style folders, with the words of all that hold words.

    Raises `DataError` naming what is missing.
    """
    folders = list(folders)
    wordings: dict[str, Wording] = {}
    for folder in folders:
        if (folder / WORDS).is_file():
            wordings |= read_wordings(folder / WORDS)
    folders = [folder for folder in folders if not (folder / WORDS).is_file()]
    for folder in folders:
        for name in (CAPTIONS, ARCHIVE):
            if not (folder / name).is_file():
                raise DataError(f"{folder / name}: missing; an emoji set has both")
    chinese = _chinese_names()
    described, meanings = read_descriptions(), read_meanings()
    said: dict[str, list[str]] = defaultdict(list)
    for text, base in meanings.items():
        said[base].append(text)
    return [
        Emoji(
            folder=folder,
            file=row["file"],
            codepoints=row["codepoints"] or Path(row["file"]).stem,
            name=row["name"],
            keywords=tuple(row["keywords"]),
            tones=tuple(row["skin_tone"] or ()),
            base=row["base"],
            style=row["style"],
            duplicate_of=row.get("duplicate_of"),
            chinese=chinese.get(row["codepoints"]),
            wording=wordings.get(row["codepoints"]),
            descriptions=described.get(row["base"], {}),
            meanings=tuple(said.get(row["base"], ())),
            telling=tuple(
                word for word in row["keywords"] if not means_another(word, row["base"], meanings)
            ),
            synthetic=row.get("synthetic", False),
        )
        for folder in folders
        for row in map(json.loads, (folder / CAPTIONS).read_text("utf-8").splitlines())
    ]


@dataclass(frozen=True, slots=True)
class _Content:
    """An image's file, as it lies in an archive."""

    name: str  # for errors
    data: bytes

    def image(self) -> Image.Image:
        """RGBA. Raises `DataError`."""
        try:
            return Image.open(io.BytesIO(self.data)).convert("RGBA")
        except OSError as error:
            raise DataError(f"{self.name}: {error}") from error


def read_pictures(records: Iterable[Emoji]) -> Iterator[Image.Image]:
    """The records' images, RGBA, in order. Raises `DataError` naming a broken one."""
    return (content.image() for content in _contents(records))


def _contents(records: Iterable[Emoji]) -> Iterator[_Content]:
    archives: dict[Path, zipfile.ZipFile] = {}
    with ExitStack() as stack:
        for record in records:
            path = record.folder / ARCHIVE
            try:
                if path not in archives:
                    archives[path] = stack.enter_context(zipfile.ZipFile(path))
                data = archives[path].read(record.file)
            except (OSError, KeyError, zipfile.BadZipFile) as error:
                raise DataError(f"{path}: {record.file}: {error}") from error
            yield _Content(f"{path}: {record.file}", data)


def _resized(content: _Content, form: PictureFormat) -> Pixels:
    return form.pixels(content.image())


def select(records: Iterable[Emoji], split: Split) -> list[Emoji]:
    """The records of one side of the hold-out."""
    records = list(records)
    own = {(record.folder, record.file): record.split for record in records}
    return [r for r in records if own[r.folder, r.duplicate_of or r.file] == split]


def load(
    folders: Iterable[Path],
    form: PictureFormat,
    split: Split = "train",
    cache: Path | None = None,
    report: Report = silent,
) -> PictureSet:
    """One side of the hold-out; for ``cache`` and ``report`` see `model.data.load`.

    Raises `DataError`.
    """
    every = read_records(folders)
    if not every:
        raise DataError("no images: words describe the images of sets, which have to be given too")
    records = select(every, split)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        groups[record.style, record.base].append(index)
    archives = {folder: file_identity(folder / ARCHIVE) for folder in {r.folder for r in records}}
    key = key_of(form, (f"{archives[record.folder]}\0{record.file}" for record in records))
    jobs = (partial(_resized, content, form) for content in _contents(records))
    read = read_all(jobs, len(records), form, key, cache, report)
    return PictureSet(
        name="emoji",
        pictures=read.pictures,
        captions=[record.caption for record in records],
        prompters=[partial(prompt_for, record) for record in records],
        groups=list(groups.values()),
    )
