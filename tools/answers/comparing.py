"""What differs between two records."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

COMPARED = ("status", "content_type", "sha256", "request")
SHOWN = 20
"""Characters of a value in the table: enough to see it. Requests stand below it in full."""

Record = Mapping[str, Mapping[str, Any]]


def differences(one: Record, other: Record) -> Iterator[tuple[str, str, str, str]]:
    """Name of the request, what of it differs, and both values."""
    for name in dict.fromkeys((*one, *other)):
        if name not in one or name not in other:
            first, second = ("yes" if name in each else "no" for each in (one, other))
            yield name, "recorded", first, second
            continue
        for what in COMPARED:
            values = [each[name].get(what) for each in (one, other)]
            if values[0] != values[1]:
                first, second = (str(value)[:SHOWN] for value in values)
                yield name, what, first, second


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows below each other, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "".join(f"{line}\n" for line in lines)


def explained(name: str, one: Record, other: Record) -> str:
    """How the contents of two answers, or their requests, differ, line by line."""
    texts = [
        json.dumps(
            {key: each[name].get(key) for key in ("contents", "request")},
            ensure_ascii=False,
            indent=1,
            sort_keys=True,
        )
        for each in (one, other)
    ]
    before, after = (text.splitlines() for text in texts)
    changed = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]
    lines = [f"    {line}" for line in changed]
    if one[name]["sha256"] != other[name]["sha256"] and pixels(one[name]) == pixels(other[name]):
        lines.append("    The pixels are equal: only what the file says of itself has changed.")
    return "".join(f"{line}\n" for line in (name, *lines))


def pixels(answer: Mapping[str, Any]) -> object:
    """What of an answer that is an image depends on its pixels; no two others are equal in it."""
    contents = answer.get("contents")
    return contents.get("pixels", object()) if isinstance(contents, Mapping) else object()


def report(one: Record, other: Record) -> tuple[str, bool]:
    """What there is to say of two records, and whether they are equal."""
    rows = list(differences(one, other))
    bad = [name for name, answer in one.items() if answer["status"] != httpx.codes.OK]
    note = f"A has errors in place of {', '.join(bad)}.\n" if bad else ""
    if not rows:
        return f"All {len(one)} answers are equal.\n{note}", True
    names = list(dict.fromkeys(row[0] for row in rows))
    changed = list(dict.fromkeys(row[0] for row in rows if row[1] in ("sha256", "request")))
    text = table([("request", "differs in", "A", "B"), *rows])
    text += "".join(f"\n{explained(name, one, other)}" for name in changed)
    total = len({*one, *other})
    return f"{text}\n{len(names)} of {total} answers differ.\n{note}", False
