"""The figures of a checkpoint as one table: which there are, how they are written and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from model.evaluation.resemblance import Resemblance, SetLine
from model.evaluation.retrieval import NAME, Line
from model.evaluation.share import Share


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that every set of pictures has, or some have."""

    name: str
    better: str
    of: Callable[[Resemblance], float | None]
    digits: int = 3


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One line of a table: what was drawn, and real pictures in its place."""

    name: str
    better: str
    drawn: str
    real: str


NONE = "–"

FIGURES = (
    Figure("MSE to its own real picture", "low", lambda r: r.to_own.mse if r.to_own else None, 4),
    Figure("SSIM to its own real picture", "high", lambda r: r.to_own.ssim if r.to_own else None),
    Figure("density", "as real", lambda r: r.density),
    Figure("coverage", "high", lambda r: r.coverage),
    Figure("KID", "low", lambda r: r.kid, 4),
    Figure("MS-SSIM between pictures", "as real", lambda r: r.ms_ssim),
    Figure("MS-SSIM between seeds of a prompt", "low", lambda r: r.seeds),
)


def rows_of(
    line: SetLine, lines: Sequence[Line], ceilings: dict[str, Share]
) -> Iterator[FigureRow]:
    """All figures of one set, retrieval first."""
    for each in lines:
        if (each.style, each.split, each.prompt) == (line.pictures, "train", NAME):
            real = f"{ceilings[each.style].value:.1%}"
            yield FigureRow("retrieval", "high", f"{each.retrieval.value:.1%}", real)
    for figure in FIGURES:
        drawn, real_value = figure.of(line.drawn), figure.of(line.real)
        if drawn is not None:
            yield FigureRow(
                figure.name,
                figure.better,
                f"{drawn:.{figure.digits}f}",
                NONE if real_value is None else f"{real_value:.{figure.digits}f}",
            )


def figures_as_markdown(
    sets: Sequence[SetLine], lines: Sequence[Line], ceilings: dict[str, Share]
) -> str:
    """A row for each figure; for each set two columns, what was drawn and real pictures."""
    columns = {
        line.pictures: {row.name: row for row in rows_of(line, lines, ceilings)} for line in sets
    }
    names = list(dict.fromkeys(name for rows in columns.values() for name in rows))
    head = ["figure", "better"]
    for line in sets:
        head += [f"{line.pictures} ({line.of})", "real"]
    text = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    for name in names:
        better = next(rows[name].better for rows in columns.values() if name in rows)
        cells = [name, better]
        for rows in columns.values():
            cells += [rows[name].drawn, rows[name].real] if name in rows else [NONE, NONE]
        text.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in text)
