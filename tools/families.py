"""``python -m tools.families DATA…``: fills in docs/families.md, its tables and its pictures.

Several checkpoints side by side: the same prompts, seeds and real images. Figures are of images as
small as the smallest of them draws; the pictures show each in its own size. What lies between
``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is regenerated, the rest of the page is kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.evaluation import TILE, Data, evaluating
from app.cli.options import Device, Precision, choose_model, load_chosen
from model.data.emoji import Emoji, read_pictures, read_records
from model.evaluation.assessment import Assessment, figure_tables, resized
from model.evaluation.metrics import load_encoder
from model.evaluation.report import table
from model.evaluation.sampling import Sampler
from model.registry import shipped
from model.request import Picture
from model.training.sheet import contact_sheet
from tools.unpaired import draw, experiment, learn

PROMPTS = (
    *("red apple, fluent 3d style", "fox, noto style", "rocket, fluent 3d style"),
    *("hot beverage, noto style", "grinning face, fluent 3d style", "sunflower, noto style"),
    *("wolf", "红苹果，noto 风格", ""),
)
"""The last three: without a style, in Chinese, and without words."""

SEEDS = (0, 1)
SHOWN = 128  # pixels a side
PARTS = ("pictures", "figures", "speed", "experiment")  # of the page, by their marks
FEW = ("red apple", "rocket", "fox", "sunflower", "penguin", "guitar", "octopus", "strawberry")
"""Symbols of the experiment on squared errors."""


class PageError(UserError):
    """The page cannot be filled in. ``str()`` says what it lacks."""


def main(
    data: Data,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Shipped names or folders. Without: all that ship."),
    ] = None,
    page: Annotated[Path, typer.Option(help="The page to fill in.")] = Path("docs/families.md"),
    n: Annotated[int, typer.Option("-n", min=8, help="Prompts for each style.")] = 500,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Compare checkpoints: fills in docs/families.md, its tables and its pictures."""
    with one_line_errors(), evaluating():
        assessments: dict[str, Assessment] = {}
        drawn: dict[str, list[list[Picture]]] = {}
        checkpoints = [choose_model(name) for name in model or map(str, shipped())]
        side = min(min(checkpoint.spec.sizes.native) for checkpoint in checkpoints)
        encoder = load_encoder()
        filled(read(page), dict.fromkeys(PARTS, ""))  # before hours of drawing
        with progress_bar() as bar:
            for checkpoint in checkpoints:
                spec = checkpoint.spec
                name = spec.id if spec.family in assessments else spec.family
                sampler = Sampler(load_chosen(checkpoint, device, dtype, TILE), side=side)
                served = load_chosen(checkpoint, device, dtype)
                assessment = Assessment(sampler, served, data, encoder, count=n, device=device)
                task = bar.add_task(spec.id, total=assessment.steps)
                list(assessment.run(partial(bar.advance, task)))
                assessments[name] = assessment
                drawn[name] = [Sampler(served, seed=seed).draw(PROMPTS) for seed in SEEDS]
        figures, seconds = figure_tables(assessments), speeds(assessments)
        output.print(figures, highlight=False, soft_wrap=True)
        output.print(seconds, highlight=False, soft_wrap=True)
        records = read_records(data)
        folder = page.parent / "pictures"
        folder.mkdir(exist_ok=True)
        sheet(drawn, records).save(folder / "families.png", optimize=True)
        experiment(few(records)).save(folder / "unpaired.png", optimize=True)
        families = "![the same prompts and seeds](pictures/families.png)"
        unpaired = f"{code()}\n\n![what each learns](pictures/unpaired.png)"
        parts = zip(PARTS, (families, figures, seconds, unpaired), strict=True)
        page.write_text(filled(read(page), dict(parts)), encoding="utf-8")
        output.print(str(page), highlight=False)


def read(page: Path) -> str:
    """Raises `PageError`."""
    try:
        return page.read_text(encoding="utf-8")
    except OSError as error:
        raise PageError(str(error)) from error


def speeds(assessments: Mapping[str, Assessment]) -> str:
    """What an image costs, in steps and in time."""
    rows = []
    for name, assessment in assessments.items():
        speed = assessment.speed
        rows.append(
            (
                *(name, str(assessment.sampler.steps)),
                f"{speed.images_per_second:.1f} (tile {speed.tile})",
                f"{1000 * speed.image_seconds:.0f}",
            )
        )
    devices = ", ".join(dict.fromkeys(assessment.device for assessment in assessments.values()))
    head = ("family", "steps", "pictures/s", "ms for one alone")
    return f"{table(head, 'lrrr', rows)}\n\nOn {devices}."


def code() -> str:
    """The whole experiment, as Markdown."""
    return f"```python\n{inspect.getsource(learn)}\n\n{inspect.getsource(draw)}```"


def sheet(
    drawn: Mapping[str, Sequence[Sequence[Picture]]], records: Sequence[Emoji]
) -> Image.Image:
    """A row for each prompt: each model's images, one for each seed, then the real one."""
    real = {record.caption: record for record in records}
    columns = [(name, images) for name, of_seeds in drawn.items() for images in of_seeds]
    pictures: list[Picture] = []
    captions: list[str] = []
    for index, prompt in enumerate(PROMPTS):
        row = [images[index] for _, images in columns]
        pictures += [*row, real_picture(real.get(prompt), row[0])]
        captions += [f"{name}: {prompt or 'no prompt'}" for name, _ in columns]
        captions.append("real" if prompt in real else "")
    return contact_sheet(
        pictures, captions, columns=len(columns) + 1, scale=max(1, SHOWN // pictures[0].width)
    )


def few(records: Sequence[Emoji]) -> list[Image.Image]:
    """The symbols of the experiment in one style, or any where there are none."""
    own = [record for record in records if record.style == records[0].style]
    named = [record for record in own if record.name in FEW]
    return list(read_pictures(named or own[: len(FEW)]))


def filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with its parts regenerated. Raises `PageError` where one has no place."""
    for name, text in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        if page.count(begin) != 1 or rest.count(end) != 1:
            raise PageError(f"the page must have one place from {begin} to {end}")
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page


def real_picture(record: Emoji | None, like: Picture) -> Picture:
    """The real image as large as a drawn one; nothing where there is none."""
    if record is None:
        return Picture(like.width, like.height, 4, bytes(4 * like.width * like.height))
    [image] = read_pictures([record])
    return resized(image, like)


if __name__ == "__main__":
    typer.run(main)
