"""``captions.txt`` of a checkpoint: texts that its pictures were learned from, one on each line.

Where a model's picture without a prompt would be no picture (the mean of all, or the likeliest
beginning and nothing after it), it draws one of these instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CAPTIONS = "captions.txt"


def save_captions(folder: Path, captions: Iterable[str]) -> None:
    """Each once, in the order of their letters, without line breaks or empty ones."""
    lines = sorted({" ".join(caption.split()) for caption in captions} - {""})
    (folder / CAPTIONS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def load_captions(folder: Path) -> list[str]:
    return (folder / CAPTIONS).read_text(encoding="utf-8").splitlines()
