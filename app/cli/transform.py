"""``tessera transform``: images made of an image, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.generate import resolve_each, write_files
from app.cli.options import (
    Asked,
    Background,
    Count,
    Device,
    Folder,
    Lora,
    ModelCommand,
    NegativePrompt,
    Overwrite,
    Precision,
    Says,
    Seed,
    number_text,
    read_file,
    to_size,
)
from app.generation.editing.operations import EDITS, EditName, EditRequest, can
from app.generation.resolve import Wanted
from model.image_files.decode import ImageFileError
from model.request import InvalidField
from model.spec import ModelSpec, Parameter

Margin = Annotated[int | None, typer.Option(min=0, help="outpaint: per cent of that side.")]


class EditCommand(ModelCommand):
    """See `ModelCommand`."""

    def defaults(self, parameter: Parameter, spec: ModelSpec) -> dict[str, str]:
        """See `ModelCommand.defaults`."""
        own = parameter.name
        return {
            name: number_text(edit.defaults.get(own, parameter.default_for(edit.does)))
            for name, edit in EDITS.items()
            if can(spec.operations, name)
            and edit.does in parameter.operations
            and parameter.name not in edit.fixed
        }

    def subject(self, ctx: typer.Context, error: InvalidField) -> str:
        """See `ModelCommand.subject`. Of several images the message says which."""
        if error.field != "image" or not isinstance(error, ImageFileError):
            return super().subject(ctx, error)
        images: list[Path] = ctx.params["image"]
        return str(images[0]) if len(images) == 1 else "IMAGE"


def transform(
    ctx: typer.Context,
    operation: Annotated[EditName, typer.Argument(help="What to do.")],
    image: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="PNG, JPEG, WebP, AVIF or GIF. edit: one or several."
        ),
    ],
    prompt: Annotated[str, typer.Option("-p", "--prompt", help="What it should show.")] = "",
    negative_prompt: NegativePrompt = "",
    lora: Lora = "",
    mask: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="inpaint: what is regenerated is transparent in it, or else white. Without one, "
            "what is fully transparent in the image.",
        ),
    ] = None,
    factor: Annotated[
        int | None,
        typer.Option(
            help="upscale: 2 or 4 times as large, 2 by default; at most 512 pixels a side."
        ),
    ] = None,
    left: Margin = None,
    top: Margin = None,
    right: Margin = None,
    bottom: Margin = None,
    seed: Seed = 0,
    n: Count = 1,
    out: Folder = Path("out"),
    size: Annotated[
        str | None, typer.Option(help="Pixels along the longer side, or width x height.")
    ] = None,
    background: Background = None,
    metadata: Says = "full",
    overwrite: Overwrite = False,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Make images of an image: PNG files named by it, by what was done, and by their seeds.

    vary makes another one like it, restyle the same in what the prompt says, inpaint regenerates a
    part of it, outpaint adds more around it, upscale makes it twice or four times as large,
    colorize finds colours for its brightness, denoise the image beneath the noise, edit does what
    the prompt says, with one or several images.
    """
    asked: Asked = ctx.obj
    if len(image) > 1 and not EDITS[operation].several:
        raise InvalidField("image", f"{len(image)} were given, {operation} takes one")
    wanted = Wanted(
        prompt=prompt,
        negative_prompt=negative_prompt,
        lora=lora,
        size=to_size(size),
        parameters=asked.parameters,
        background=background,
        metadata=metadata,
        edit=EditRequest(
            operation=operation,
            images=tuple(map(read_file, image)),
            mask=None if mask is None else read_file(mask),
            factor=factor,
            left=left,
            top=top,
            right=right,
            bottom=bottom,
        ),
    )
    write_files(
        resolve_each(wanted, seed, n, asked.checkpoint),
        asked.checkpoint,
        out,
        prefix=f"{image[0].stem}-{operation}-",
        overwrite=overwrite,
        device=device,
        dtype=dtype,
    )
