"""The concepts of emoji sets: which symbol, in which skin tone, in which style.

Each kind has numbers from 1; 0 is what a prompt does not say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from model.data.emoji import Emoji
from model.data.pictures import DataError
from model.files import write_aside

CONCEPTS = "concepts.json"
"""What a checkpoint's numbers stand for. Serving does without: prompts are read by the weights."""


class Numbers(NamedTuple):
    """The concepts of an image, or of a prompt."""

    symbol: int
    tone: int
    style: int


NOTHING = Numbers(0, 0, 0)


@dataclass(frozen=True)
class Concepts:
    """All that a model knows, in the order of their numbers."""

    symbols: tuple[str, ...]  # code points, without skin tones
    tones: tuple[str, ...]  # "dark", or "dark light" for a pair
    styles: tuple[str, ...]

    @classmethod
    def of(cls, records: Iterable[Emoji]) -> Concepts:
        """Those that the records show."""
        records = list(records)
        return cls(
            symbols=tuple(sorted({record.base for record in records})),
            tones=tuple(sorted({" ".join(record.tones) for record in records} - {""})),
            styles=tuple(sorted({record.style for record in records})),
        )

    @classmethod
    def load(cls, folder: Path) -> Concepts:
        """Those of a checkpoint's folder. Raises ``OSError``."""
        kinds = json.loads((folder / CONCEPTS).read_text("utf-8"))
        return cls(**{kind: tuple(names) for kind, names in kinds.items()})

    def save(self, folder: Path) -> None:
        """Into a checkpoint's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), ensure_ascii=False) + "\n"
        write_aside(folder / CONCEPTS, lambda part: part.write_text(text, encoding="utf-8"))

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many numbers each kind has, 0 included: `model.flow.config.FlowConfig.concepts`."""
        return (len(self.symbols) + 1, len(self.tones) + 1, len(self.styles) + 1)

    def numbers(self, record: Emoji) -> Numbers:
        """Those of an image. Raises `DataError` where one of its concepts is not among these."""
        symbols, tones, styles = self._numbers
        try:
            return Numbers(
                symbols[record.base], tones[" ".join(record.tones)], styles[record.style]
            )
        except KeyError as error:
            raise DataError(
                f"{record.folder}: {record.file}: {error} is no symbol, skin tone or style that "
                "the model knows by number"
            ) from error

    @cached_property
    def _numbers(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        kinds = (self.symbols, self.tones, self.styles)
        symbols, tones, styles = ({name: at for at, name in enumerate(kind, 1)} for kind in kinds)
        return symbols, {"": 0, **tones}, styles


def says_style(prompt: str, record: Emoji) -> bool:
    """Whether one of the record's prompts (`model.data.prompts`) names its style.

    "sensational" does not name the style "sensa".
    """
    named = re.search(rf"\b{re.escape(record.style)}\b", prompt) is not None
    return named or record.chinese_style in prompt
