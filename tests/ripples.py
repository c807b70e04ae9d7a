"""The example family, installed as pip does it, but into a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "ripples"
FOLDER = EXAMPLE / "checkpoints" / "ripples"


def install(folder: Path) -> Path:
    """Returns what belongs on ``sys.path``."""
    # Built from a copy: setuptools leaves its files beside the source.
    source, target = folder / "source", folder / "packages"
    source.mkdir()
    for file in ("pyproject.toml", "tessera_ripples.py"):
        (source / file).write_bytes((EXAMPLE / file).read_bytes())
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(target), str(source)], check=True
    )
    return target
