"""What an evaluation leaves behind: numbers for programs, a table and pictures for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from model.data.emoji import read_pictures
from model.evaluation.figures import figures_as_markdown
from model.evaluation.resemblance import SetLine
from model.evaluation.retrieval import EmojiEvaluation, Line
from model.evaluation.sampling import Sampling
from model.evaluation.share import Share
from model.evaluation.speed import Speed
from model.protocol import Picture
from model.report import contact_sheet

READING = """\
MSE and SSIM of *real* are to the most similar picture of another symbol. Density, coverage and KID
compare with pictures of symbols that were not asked for, and *real* are those that were, so that a
perfect model equals it. MS-SSIM between pictures is low where they differ."""


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one checkpoint. Equal for equal numerics, but for ``speed``."""

    model: str
    family: str
    digest: str
    sampling: Sampling
    lines: Sequence[Line]
    ceilings: dict[str, Share]
    sets: Sequence[SetLine]
    speed: Speed
    device: str

    def as_json(self) -> dict[str, Any]:
        """Plain data, rounded. Times are under ``speed`` and nowhere else."""
        return {
            "model": self.model,
            "digest": self.digest,
            **asdict(self.sampling),
            "lines": lines_as_json(self.lines),
            "real pictures that stand alone": {
                style: round(share.value, 4) for style, share in self.ceilings.items()
            },
            "sets": rounded([asdict(line) for line in self.sets]),
            "speed": rounded(asdict(self.speed)) | {"device": self.device},
        }

    def as_markdown(self) -> str:
        """Tables, and what their figures mean."""
        text = [f"`{self.model}` ({self.digest[:12]}), {self.sampling}", ""]
        text += [lines_as_markdown(self.lines), ""]
        for style, share in self.ceilings.items():
            text.append(f"Real {style} pictures that no other of their style looks like: {share}.")
        if self.sets:
            text += ["", figures_as_markdown(self.sets, self.lines, self.ceilings), "", READING]
        speed = self.speed
        together = f"{speed.pictures_per_second:.2f} pictures/s with a tile of {speed.tile} full"
        alone = f"{1000 * speed.picture_seconds:.0f} ms for one alone"
        text += ["", f"{together}, {alone} ({self.device})."]
        return "\n".join(text) + "\n"


def write_report(folder: Path, report: Report, evaluation: EmojiEvaluation) -> None:
    """``report.json``, ``report.md`` and ``samples.png`` (pairs: drawn, then real)."""
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(report.as_json(), indent=2) + "\n"
    (folder / "report.json").write_text(written, encoding="utf-8")
    text = report.as_markdown() + "\n![drawn, and the real one beside it](samples.png)\n"
    (folder / "report.md").write_text(text, encoding="utf-8")
    pictures: list[Picture] = []
    captions: list[str] = []
    for (style, split), pairs in evaluation.drawn.items():
        some = pairs[:16]
        reals = read_pictures([record for record, _ in some])
        for (record, drawn), real in zip(some, reals, strict=True):
            small = real.resize((drawn.width, drawn.height), Image.Resampling.LANCZOS)
            pictures += [drawn, Picture(drawn.width, drawn.height, 4, small.tobytes())]
            captions += [record.name, f"real ({style}, {split})"]
    contact_sheet(pictures, captions, columns=16, scale=1).save(folder / "samples.png")


def lines_as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Lines as plain data, rounded."""
    return [
        {
            "style": line.style,
            "split": line.split,
            "prompt": line.prompt,
            "hits": line.retrieval.hits,
            "of": line.retrieval.of,
            "retrieval": round(line.retrieval.value, 4),
            "interval": [round(bound, 4) for bound in line.retrieval.interval],
            "error": round(line.error, 4),
        }
        for line in lines
    ]


def lines_as_markdown(lines: Sequence[Line]) -> str:
    """Lines as a table."""
    rows = [
        f"| {line.style} | {line.split} | {line.prompt} | {line.retrieval.of} "
        f"| {line.retrieval} | {line.error:.3f} |"
        for line in lines
    ]
    head = "| style | pictures | prompt | n | nearest real is the one asked for | median error |"
    return "\n".join([head, "| --- | --- | --- | ---: | --- | ---: |", *rows])


def rounded(value: Any) -> Any:
    """Plain data with floats that a person can read."""
    match value:
        case float():
            return round(value, 5)
        case dict():
            return {key: rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [rounded(one) for one in value]
    return value
