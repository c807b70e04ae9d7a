"""``tessera transform``: pictures made of a picture, without a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from PIL import ImageColor

from app.cli.console import UserError, one_line_errors, output
from app.cli.drawing import ask, draw_all
from app.cli.options import Chosen, Device, Guidance, Precision, Steps, open_checkpoint
from app.operations import Misfit, Name, Wish, can, offered
from app.pictures import TRANSPARENT, Encoding, finish
from app.uploads.decoding import UploadError
from app.uploads.prepare import Canvas
from model.protocol import SEEDS

MOST_PIXELS = 100_000_000
"""Of the picture, or of the one with its margins: 1.2 GB of memory."""

Margin = Annotated[int | None, typer.Option(min=0, help="outpaint: per cent of that side.")]


def transform(
    operation: Annotated[Name, typer.Argument(help="What to do.")],
    image: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="PNG, JPEG, WebP or GIF.")
    ],
    prompt: Annotated[str, typer.Option("-p", "--prompt", help="What it shall show.")] = "",
    mask: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="inpaint: what is made anew is transparent in it, or else white. Without one, "
            "what is transparent in the picture.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="vary, restyle, inpaint: how far from the picture."),
    ] = None,
    factor: Annotated[
        int | None, typer.Option(min=2, max=4, help="upscale: 2 or 4 times as large.")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="denoise: the noise's deviation; estimated without."),
    ] = None,
    left: Margin = None,
    top: Margin = None,
    right: Margin = None,
    bottom: Margin = None,
    seed: Annotated[
        int, typer.Option(min=0, max=SEEDS - 1, help="The first picture's; the next ones follow.")
    ] = 0,
    n: Annotated[int, typer.Option("-n", min=1, help="How many pictures.")] = 1,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path(
        "out"
    ),
    size: Annotated[
        int | None, typer.Option(min=1, help="Pixels along the longer side of the answer.")
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(help='"transparent" or a colour that Pillow knows; as the picture without.'),
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    model: Chosen = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Make pictures of a picture: PNG files named by it, by what was done, and by their seeds.

    vary makes another one like it, restyle the same in what the prompt says, inpaint a part of it
    anew, outpaint more around it, upscale twice or four times as many pixels, colorize colours for
    its brightness, denoise the picture beneath the noise.
    """
    with one_line_errors():
        checkpoint = open_checkpoint(model)
        spec = checkpoint.spec
        if not can(spec.operations, operation):
            others = ", ".join(offered(spec.operations))
            raise UserError(f"{spec.id} cannot {operation}; it can {others}")
        try:
            wish = Wish(
                operation=operation,
                image=image.read_bytes(),
                mask=None if mask is None else mask.read_bytes(),
                prompt=prompt,
                strength=strength,
                factor=factor,
                noise=noise,
                left=left,
                top=top,
                right=right,
                bottom=bottom,
            )
            prepared = wish.prepare(Canvas(spec.size, spec.channels), MOST_PIXELS)
        except Misfit as error:
            raise UserError(f"--{error.field} {error}") from error
        except UploadError as error:
            raise UserError(f"{image if error.upload == 'image' else mask} {error}") from error
        width, height = prepared.scaled(size)
        own = "white" if prepared.opaque else TRANSPARENT
        encoding = Encoding("png", width, height, _colour(background or own), quality=100)
        requests = [
            replace(
                ask(
                    spec,
                    prompt,
                    seed + k,
                    steps=wish.kind.steps if steps is None else steps,
                    guidance=guidance,
                ),
                operation=wish.kind.does,
                source=prepared.source,
            )
            for k in range(n)
        ]
        out.mkdir(parents=True, exist_ok=True)
        for request, picture in draw_all(checkpoint, requests, device=device, dtype=dtype):
            path = out / f"{image.stem}-{operation}-{request.seed}.png"
            finish(picture, encoding, prepared.frame).save(path)
            output.print(str(path), highlight=False, soft_wrap=True)


def _colour(background: str) -> str:
    """As `Encoding` has it. Raises `UserError`."""
    if background == TRANSPARENT:
        return background
    try:
        red, green, blue = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise UserError(f"--background: {error}") from error
    return f"{red:02x}{green:02x}{blue:02x}"
