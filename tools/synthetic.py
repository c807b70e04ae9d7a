"""Whether images that a style lacks were drawn rightly (`tools.counterparts`).

By *retrieval*, of the same held-out images that `tessera evaluate` asks a model for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.cli.console import UserError
from model.data.emoji import is_set, read_pictures, read_records
from model.evaluation.report import Share, table
from model.evaluation.retrieval import Gallery, prompt_batches, thumbnail


@dataclass(frozen=True, slots=True)
class Line:
    """One style."""

    style: str
    drawn: int  # of what is held out
    found: Share  # of all that is held out


class SyntheticEvaluation:
    """Up to ``count`` held-out images of each style; what was not drawn is not found.

    Raises `DataError`, and `UserError` where there is nothing to compare.
    """

    def __init__(self, folders: Sequence[Path], out: Path, count: int) -> None:
        """``out`` has the sets that were drawn, ``folders`` are the real ones."""
        drawn = sorted(folder for folder in out.glob("*") if is_set(folder))
        if not drawn:
            raise UserError(f"{out}: has no emoji sets, as tools.counterparts writes them")
        records = read_records(folders)
        self._gallery = Gallery(records)
        self._drawn = {(each.style, each.codepoints): each for each in read_records(drawn)}
        batches = prompt_batches(records, sorted({style for style, _ in self._drawn}), count)
        self._held_out = [batch for batch in batches if batch.split == "held-out style"]
        if not self._held_out:
            raise UserError(f"{out}: none of its styles has held-out images in the real sets")

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        return sum(len(batch.records) for batch in self._held_out)

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[Line]:
        """One line after the other."""
        for batch in self._held_out:
            style, count = batch.style, len(batch.records)
            wanted = [each for each in batch.records if (style, each.codepoints) in self._drawn]
            images = read_pictures(self._drawn[style, each.codepoints] for each in wanted)
            found = sum(
                self._gallery.finds(thumbnail(image), record, style)
                for record, image in zip(wanted, images, strict=True)
            )
            on_step(count)
            yield Line(style, len(wanted), Share(found, count))


def synthetic_table(lines: Sequence[Line]) -> str:
    """Markdown."""
    mean = sum(line.found.value for line in lines) / len(lines)
    return table(
        ["style", "held-out images", "drawn", "found"],
        "lrrr",
        [
            *([line.style, str(line.found.of), str(line.drawn), str(line.found)] for line in lines),
            ["mean", "", "", f"{mean:.1%}"],
        ],
    )
