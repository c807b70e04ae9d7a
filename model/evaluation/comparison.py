"""Several checkpoints side by side: the same prompts, seeds and real pictures.

Writes into a page that people write: what lies between ``<!-- begin NAME -->`` and
``<!-- end NAME -->`` is made anew, the rest is theirs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from model.checkpoint import Checkpoint, load_model
from model.data.emoji import Emoji, read_pictures, read_records
from model.evaluation.figures import NONE, FigureRow, rows_of
from model.evaluation.report import Report
from model.evaluation.unpaired import draw, experiment, learn
from model.protocol import Picture, RowRequest
from model.report import contact_sheet
from model.sampling import generate

PROMPTS = (
    *("red apple, fluent 3d style", "fox, noto style", "rocket, fluent 3d style"),
    *("hot beverage, noto style", "grinning face, fluent 3d style", "sunflower, noto style"),
    *("wolf", "红苹果，noto 风格", ""),
)
"""The last three: without a style, in Chinese, and without words."""

SEEDS = (0, 1)
FEW = ("red apple", "rocket", "fox", "sunflower", "penguin", "guitar", "octopus", "strawberry")
"""Symbols of the experiment on squared errors."""


class PageError(Exception):
    """The page cannot be filled in. ``str()`` says what it lacks."""


@dataclass(frozen=True, slots=True)
class Sketches:
    """What to look at of one checkpoint: pictures of `PROMPTS`, a row for each of `SEEDS`."""

    family: str
    rows: Sequence[Sequence[Picture]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that is put into the page. The reports are of the same pictures and seeds."""

    reports: Sequence[Report]
    sketches: Sequence[Sketches]
    records: Sequence[Emoji] = field(repr=False)

    def tables(self) -> str:
        """One for each set of pictures: a row for each figure, a column for each family."""
        sets = list(dict.fromkeys(line.pictures for r in self.reports for line in r.sets))
        return "\n\n".join(self._table(pictures) for pictures in sets)

    def _table(self, pictures: str) -> str:
        columns: list[dict[str, FigureRow]] = []
        count = 0
        for report in self.reports:
            lines = [line for line in report.sets if line.pictures == pictures]
            count = max([count, *(line.of for line in lines)])
            rows = [row for each in lines for row in rows_of(each, report.lines, report.ceilings)]
            columns.append({row.name: row for row in rows})
        families = [report.family for report in self.reports]
        text = [
            [f"{pictures}, {count} pictures", "better", *families, "real"],
            ["---", "---", *["---:"] * (len(families) + 1)],
        ]
        for name in dict.fromkeys(name for column in columns for name in column):
            found = [column[name] for column in columns if name in column]
            cells = [column[name].drawn if name in column else NONE for column in columns]
            text.append([name, found[0].better, *cells, found[0].real])
        return as_table(text)

    def speeds(self) -> str:
        """What a picture costs, in passes and in time."""
        text = [["family", "steps", "pictures/s", "ms for one alone"], ["---", *["---:"] * 3]]
        for report in self.reports:
            speed = report.speed
            per_second = f"{speed.pictures_per_second:.1f} (tile {speed.tile})"
            alone = f"{1000 * speed.picture_seconds:.0f}"
            text.append([report.family, str(report.sampling.steps), per_second, alone])
        devices = ", ".join(dict.fromkeys(report.device for report in self.reports))
        return f"{as_table(text)}\n\nOn {devices}."

    def sheet(self) -> Image.Image:
        """A row for each prompt; the families' pictures and the real one in columns."""
        real = {record.caption: record for record in self.records}
        pictures: list[Picture] = []
        captions: list[str] = []
        for place, prompt in enumerate(PROMPTS):
            for each in self.sketches:
                pictures += [row[place] for row in each.rows]
                captions += [f"{each.family}: {prompt or 'no prompt'}"] * len(each.rows)
            pictures.append(_real(real.get(prompt), pictures[0]))
            captions.append("real" if prompt in real else "")
        columns = len(SEEDS) * len(self.sketches) + 1
        return contact_sheet(pictures, captions, columns=columns)

    def write(self, page: Path) -> None:
        """Fills ``page`` in, and puts its pictures into ``pictures/`` beside it."""
        text = page.read_text(encoding="utf-8")
        code = inspect.getsource(learn) + "\n\n" + inspect.getsource(draw)
        parts = {
            "pictures": "![the same prompts and seeds](pictures/families.png)",
            "figures": self.tables(),
            "speed": self.speeds(),
            "experiment": f"```python\n{code}```\n\n![what each learns](pictures/unpaired.png)",
        }
        text = filled(text, parts)
        folder = page.parent / "pictures"
        folder.mkdir(exist_ok=True)
        self.sheet().save(folder / "families.png", optimize=True)
        experiment(self._few()).save(folder / "unpaired.png", optimize=True)
        page.write_text(text, encoding="utf-8")

    def _few(self) -> list[Image.Image]:
        """The symbols of the experiment in one style, or any where there are none."""
        style = self.records[0].style
        own = [record for record in self.records if record.style == style]
        named = [record for record in own if record.name in FEW]
        return list(read_pictures(named or own[: len(FEW)]))


def sketch(checkpoint: Checkpoint, *, device: str, dtype: Any) -> Sketches:
    """Draws what `Comparison` shows."""
    model = load_model(checkpoint, device=device, dtype=dtype)
    spec = checkpoint.spec
    steps, guidance = int(spec.steps.default), spec.guidance.default
    rows = [
        list(generate(model, [RowRequest(text, seed, steps, guidance) for text in PROMPTS]))
        for seed in SEEDS
    ]
    return Sketches(spec.family, rows)


def compare(
    reports: Sequence[Report], sketches: Sequence[Sketches], folders: Sequence[Path]
) -> Comparison:
    """Raises ``DataError``."""
    return Comparison(reports, sketches, read_records(folders))


def filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with its parts made anew. Raises `PageError` where one has no place."""
    for name, text in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        if page.count(begin) != 1 or rest.count(end) != 1:
            raise PageError(f"the page must have one place from {begin} to {end}")
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _real(record: Emoji | None, like: Picture) -> Picture:
    """The real picture as large as the drawn ones; nothing where there is none."""
    if record is None:
        return Picture(like.width, like.height, 4, bytes(4 * like.width * like.height))
    [image] = read_pictures([record])
    small = image.resize((like.width, like.height), Image.Resampling.LANCZOS)
    return Picture(like.width, like.height, 4, small.tobytes())
