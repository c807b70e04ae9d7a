"""Whether images that a style lacks were drawn rightly (`tools.counterparts`): *retrieval* of what
is held out of it, as `tessera evaluate` measures what a model draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.cli.console import UserError
from model.data.emoji import is_set, read_pictures, read_records, select
from model.evaluation.report import Share, table
from model.evaluation.retrieval import Gallery, thumbnail
from model.evaluation.sampling import choose_records


@dataclass(frozen=True, slots=True)
class Line:
    """One style."""

    style: str
    drawn: Share  # of what is held out
    found: Share  # likewise: what was not drawn is not found


class SyntheticEvaluation:
    """Up to ``count`` images of each style. Raises `DataError`, and `UserError` without images."""

    def __init__(self, folders: Sequence[Path], out: Path, count: int) -> None:
        """``out`` has the sets that were drawn, ``folders`` are the real ones."""
        drawn = sorted(folder for folder in out.glob("*") if is_set(folder))
        if not drawn:
            raise UserError(f"{out}: has no emoji sets, as tools.counterparts writes them")
        records = read_records(folders)
        self._gallery = Gallery(records)
        self._drawn = {(each.style, each.codepoints): each for each in read_records(drawn)}
        held_out = select(records, "held-out style")
        styles = {style for style, _ in self._drawn} & {record.style for record in held_out}
        if not styles:
            raise UserError(f"{out}: none of its styles has held-out images in the real sets")
        self._chosen = {
            style: choose_records([one for one in held_out if one.style == style], count)
            for style in sorted(styles)
        }

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        return sum(map(len, self._chosen.values()))

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[Line]:
        """One line after the other."""
        for style, chosen in self._chosen.items():
            wanted = [each for each in chosen if (style, each.codepoints) in self._drawn]
            images = read_pictures(self._drawn[style, each.codepoints] for each in wanted)
            found = sum(
                self._gallery.finds(thumbnail(image), record, style)
                for record, image in zip(wanted, images, strict=True)
            )
            on_step(len(chosen))
            yield Line(style, Share(len(wanted), len(chosen)), Share(found, len(chosen)))


def synthetic_table(lines: Sequence[Line]) -> str:
    """Markdown."""
    mean = sum(line.found.value for line in lines) / len(lines)
    return table(
        ["style", "held-out images", "drawn", "found"],
        "lrrr",
        [
            *(
                [line.style, str(line.found.of), str(line.drawn.hits), str(line.found)]
                for line in lines
            ),
            ["mean", "", "", f"{mean:.1%}"],
        ],
    )
