"""How fast a folder of photos is read for training, and in how much memory.

``python -m tools.reading`` makes JPEG files of 12 megapixels with noise in them and reads them.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from model.data import load
from model.data.pictures import PictureFormat

WIDTH, HEIGHT = 4000, 3000


def make_photos(folder: Path, count: int) -> None:
    """Colours that run into one another, and the noise of a camera."""
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 256, (75, 100, 3), np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
    noise = draw.integers(-12, 13, smooth.shape, np.int16)
    for number in range(count):
        values = np.roll(smooth, 37 * number, 1) + np.roll(noise, 91 * number, 0)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{number:05}.jpg", quality=88)


def main(
    photos: Annotated[int, typer.Option(min=1)] = 200,
    size: Annotated[int, typer.Option(min=8, help="Pixels along each side, in training.")] = 64,
    made: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Read photos twice: the second time they are there."""
    if made is not None:
        make_photos(made, photos)
        return
    with tempfile.TemporaryDirectory() as folder:
        (pictures := Path(folder) / "pictures").mkdir()
        command = [sys.executable, "-m", "tools.reading", "--photos", str(photos)]
        subprocess.run([*command, "--made", str(pictures)], check=True)  # its memory is not ours
        before = _peak()
        for number in ("first", "second"):
            began, busy = time.perf_counter(), time.process_time()
            load([pictures], PictureFormat(size), Path(folder) / "cache")
            took, busy = time.perf_counter() - began, time.process_time() - busy
            each = 1000 * busy / photos
            typer.echo(
                f"{number}: {took:.2f} s, {photos / took:.1f} photos/s, {each:.1f} ms of CPU each"
            )
        typer.echo(f"peak of memory: {before:.0f} MB before, {_peak():.0f} MB after")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    typer.run(main)
