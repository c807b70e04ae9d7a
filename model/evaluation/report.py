"""What an evaluation leaves behind: numbers for programs, a table and pictures for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from model.data.emoji import read_pictures
from model.evaluation.retrieval import EmojiEvaluation, Line
from model.protocol import Picture
from model.report import contact_sheet


def write_report(folder: Path, evaluation: EmojiEvaluation, lines: Sequence[Line]) -> None:
    """``report.json``, ``report.md`` and ``samples.png`` (pairs: drawn, then real)."""
    folder.mkdir(parents=True, exist_ok=True)
    ceilings = {style: evaluation.gallery.ceiling(style) for style in evaluation.styles}
    spec, sampling = evaluation.model.spec, evaluation.sampling
    report = {
        "model": spec.id,
        "digest": spec.digest,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "seed": sampling.seed,
        "lines": as_json(lines),
        "real pictures that stand alone": {s: round(c.value, 4) for s, c in ceilings.items()},
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    how = f"{sampling.steps} steps, guidance {sampling.guidance:g}, seed {sampling.seed}"
    text = [
        f"`{spec.id}` ({spec.digest[:12]}), {how}",
        "",
        as_markdown(lines),
        "",
        *(
            f"Real {s} pictures that no other of their style looks like: {c}."
            for s, c in ceilings.items()
        ),
    ]
    (folder / "report.md").write_text("\n".join(text) + "\n", encoding="utf-8")
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


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
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


def as_markdown(lines: Sequence[Line]) -> str:
    """Lines as a table."""
    rows = [
        f"| {line.style} | {line.split} | {line.prompt} | {line.retrieval.of} "
        f"| {line.retrieval} | {line.error:.3f} |"
        for line in lines
    ]
    head = "| style | pictures | prompt | n | nearest real is the one asked for | median error |"
    return "\n".join([head, "| --- | --- | --- | ---: | --- | ---: |", *rows])
