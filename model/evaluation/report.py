"""What an evaluation leaves behind: numbers for programs, tables and images for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from scipy.stats import binomtest

from model.spec import ModelSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with a 95 % interval (Wilson 1927)."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        bounds = binomtest(self.hits, self.of).proportion_ci(method="wilson")
        return float(bounds.low), float(bounds.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%})"


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Of one evaluation of one checkpoint."""

    name: str
    spec: ModelSpec
    how: str  # images were drawn; may be empty
    tables: Sequence[str]  # Markdown, also with remarks between them
    figures: dict[str, Any]  # plain data
    sheet: Image.Image
    shows: str  # what is on the sheet
    file: str  # of the sheet

    @property
    def text(self) -> str:
        """Markdown."""
        title = f"`{self.spec.id}` ({self.spec.digest[:12]})"
        return "\n\n".join((f"{title}, {self.how}" if self.how else title, *self.tables))

    def write(self, folder: Path) -> Path:
        """NAME.json, NAME.md and the sheet, into ``folder`` (made if missing). Returns NAME.md."""
        folder.mkdir(parents=True, exist_ok=True)
        data = {"model": self.spec.id, "digest": self.spec.digest, **self.figures}
        written = json.dumps(data, indent=2) + "\n"
        (folder / f"{self.name}.json").write_text(written, encoding="utf-8")
        self.sheet.save(folder / self.file)
        path = folder / f"{self.name}.md"
        path.write_text(f"{self.text}\n\n![{self.shows}]({self.file})\n", encoding="utf-8")
        return path


def table(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """Markdown. ``align`` has a letter for each column: l or r."""
    rules = ["---:" if letter == "r" else "---" for letter in align]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rules, *rows])


def plain(value: Any) -> Any:
    """Data that JSON can hold: floats with five digits, `Share`s with value and interval."""
    match value:
        case Share(hits, of):
            return plain({"hits": hits, "of": of, "value": value.value, "interval": value.interval})
        case float():
            return round(value, 5)
        case dict():
            return {key: plain(part) for key, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    return value
