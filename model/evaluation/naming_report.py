"""What an evaluation of names leaves behind: ``describe.json``, ``.md`` and ``.png``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.evaluation.naming import TOP, NamingEvaluation, NamingLine
from model.evaluation.share import Share
from model.report import contact_sheet

SHOWN = 24
"""Pictures with what was said of them, spread over all lines."""


def write_naming_report(
    folder: Path, evaluation: NamingEvaluation, lines: Sequence[NamingLine]
) -> None:
    """Writes all three into ``folder`` (made if missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = evaluation.model.spec
    report = {"model": spec.id, "digest": spec.digest, "lines": [_as_json(one) for one in lines]}
    text = json.dumps(report, indent=2) + "\n"
    (folder / "describe.json").write_text(text, encoding="utf-8")
    parts = [f"`{spec.id}` ({spec.digest[:12]})", naming_as_markdown(lines)]
    (folder / "describe.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    named = evaluation.named[:: max(1, len(evaluation.named) // SHOWN)][:SHOWN]
    sheet = contact_sheet(
        [one.picture for one in named], [one.description.caption or "—" for one in named]
    )
    sheet.save(folder / "describe.png")


def naming_as_markdown(lines: Sequence[NamingLine]) -> str:
    """A table."""
    head = f"| style | pictures | n | first label | one of {TOP} labels | caption |"
    rows = [
        f"| {line.style} | {line.split} | {line.label.of} "
        f"| {line.label} | {line.labels} | {line.words} |"
        for line in lines
    ]
    return "\n".join([head, "| --- | --- | ---: | --- | --- | --- |", *rows])


def _as_json(line: NamingLine) -> dict[str, Any]:
    shares: dict[str, Share] = {"label": line.label, "labels": line.labels, "words": line.words}
    figures = {name: {**asdict(one), "value": round(one.value, 4)} for name, one in shares.items()}
    return {"style": line.style, "split": line.split, **figures}
