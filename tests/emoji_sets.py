"""Emoji sets of plain squares, for tests of what reads or measures them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

from PIL import Image

MANY = {f"1f{number:03x}": f"thing {number}" for number in range(0x400, 0x428)}
"""Enough symbols for figures of sets."""


def make_set(folder: Path, style: str, symbols: dict[str, str], *, synthetic: bool = False) -> Path:
    """A set of plain squares: ``symbols`` maps code points to names."""
    folder.mkdir(parents=True)
    with (
        zipfile.ZipFile(folder / "images.zip", "w") as archive,
        (folder / "captions.jsonl").open("w", encoding="utf-8") as captions,
    ):
        for number, (codepoints, name) in enumerate(symbols.items()):
            file = io.BytesIO()
            colour = (number * 90 % 256, number * 37 % 256, 128, 255)
            Image.new("RGBA", (32, 32), colour).save(file, "WEBP", lossless=True)
            archive.writestr(f"{codepoints}.webp", file.getvalue())
            row = {
                "file": f"{codepoints}.webp",
                "codepoints": codepoints,
                "name": name,
                "keywords": name.split(),
                "group": "Test",
                "subgroup": "test",
                "skin_tone": None,
                "base": codepoints.split("_")[0],
                "style": style,
                "synthetic": synthetic,
            }
            captions.write(json.dumps(row) + "\n")
    return folder


def make_words(folder: Path) -> Path:
    """Words for a dog, and for a cat that shares one of them."""
    folder.mkdir()
    rows: list[dict[str, object]] = [
        {"lang": "en", "name": "dog face", "keywords": ["face", "pet"], "more": ["woof", "pet"]},
        {"lang": "zh", "name": "狗脸", "keywords": ["宠物"]},
        {"lang": "de", "name": "Hundegesicht", "keywords": ["Hund", "Tier"]},
    ]
    cat = {"codepoints": "1f431", "lang": "en", "name": "cat face", "keywords": ["face"]}
    lines = [*({"codepoints": "1f436", **row} for row in rows), cat]
    with gzip.open(folder / "words.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return folder
