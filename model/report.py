"""Pictures about pictures: contact sheets and loss curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from model.lettering import lettering
from model.protocol import Picture


def to_image(picture: Picture, background: str | None = None) -> Image.Image:
    """A Pillow picture; with ``background`` a colour, RGB on it, else as it is."""
    mode = {3: "RGB", 4: "RGBA"}[picture.channels]
    image = Image.frombytes(mode, (picture.width, picture.height), picture.pixels)
    if background is None or mode == "RGB":
        return image
    ground = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(ground, image).convert("RGB")


def contact_sheet(
    pictures: Sequence[Picture], captions: Sequence[str], columns: int = 8, scale: int = 2
) -> Image.Image:
    """Pictures on white in rows, enlarged ``scale`` times, each with its caption under it."""
    width = pictures[0].width * scale
    height = pictures[0].height * scale
    text, gap = 22, 8
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = Image.new(
        "RGB", (columns * (width + gap) + gap, rows * (height + text + gap) + gap), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x = gap + place % columns * (width + gap)
        y = gap + place // columns * (height + text + gap)
        image = to_image(picture, "white").resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(image, (x, y))
        words, font = lettering(caption, 10, width)
        draw.text((x + width / 2, y + height + 4), words, "#333", font, "ma")
    return sheet


def loss_curve(log: Path, path: Path) -> None:
    """Plots a run's ``log.jsonl``: the loss of every step, and its running mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = np.array([line["step"] for line in lines])
    loss = np.array([line["loss"] for line in lines])
    window = max(1, len(loss) // 50)
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(steps, loss, color="#b8c4d6", linewidth=0.6, label="each step")
    axes.plot(steps[window - 1 :], smooth, color="#1f4e9c", label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
