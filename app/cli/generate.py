"""``tessera generate`` and ``tessera sheet``: images from prompts, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.console import UserError, problems, progress_bar, say
from app.cli.options import (
    LIMITS,
    Asked,
    Background,
    Count,
    Device,
    Folder,
    Lora,
    NegativePrompt,
    Overwrite,
    Precision,
    Says,
    Seed,
    check_out,
    load_chosen,
    make_folder,
    pipeline_settings,
    to_size,
    write_file,
)
from app.generation.output import encode, encode_animation, made_by_machine
from app.generation.resolve import Generation, Wanted, resolve
from model.checkpoint import Checkpoint
from model.protocol import ImageModel, RowFailed
from model.request import SEEDS, ImageRequest, Picture


def generate(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help='For example "red apple, fluent 3d style".')] = "",
    negative_prompt: NegativePrompt = "",
    lora: Lora = "",
    seed: Seed = 0,
    n: Count = 1,
    walk: Annotated[
        int | None,
        typer.Option(min=2, help="Frames of an animated WebP from the seed's image and back."),
    ] = None,
    out: Folder = Path("out"),
    size: Annotated[
        str | None, typer.Option(help="Pixels: 128 for a square, or width x height: 128x96.")
    ] = None,
    background: Background = None,
    metadata: Says = "full",
    overwrite: Overwrite = False,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Generate images without a server, into PNG files named by their seeds.

    With --walk, each is an animated WebP instead: its seed's image turns into others, the next
    seed's among them, and back again.
    """
    asked: Asked = ctx.obj
    wanted = Wanted(
        prompt=prompt,
        negative_prompt=negative_prompt,
        lora=lora,
        walk=walk,
        size=to_size(size),
        parameters=asked.parameters,
        format="webp" if walk else "png",
        background=background,
        metadata=metadata,
    )
    generations = resolve_each(wanted, seed, n, asked.checkpoint)
    write_files(generations, asked.checkpoint, out, overwrite=overwrite, device=device, dtype=dtype)


def sheet(
    ctx: typer.Context,
    prompts: Annotated[list[str], typer.Argument(help="One image for each.")],
    negative_prompt: NegativePrompt = "",
    lora: Lora = "",
    out: Annotated[Path, typer.Option("-o", "--out", help="The PNG file.")] = Path("sheet.png"),
    seed: Annotated[int, typer.Option(min=0, max=SEEDS - 1, help="The same for all.")] = 0,
    columns: Annotated[int, typer.Option(min=1)] = 8,
    scale: Annotated[int, typer.Option(min=1, help="Times that images are enlarged.")] = 2,
    overwrite: Overwrite = False,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Generate images of several prompts, into one contact sheet."""
    from model.training.sheet import contact_sheet

    asked: Asked = ctx.obj
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out} was given, a sheet is written as .png")
    wanted = [
        Wanted(
            prompt=prompt,
            negative_prompt=negative_prompt,
            lora=lora,
            seed=seed,
            parameters=asked.parameters,
        )
        for prompt in prompts
    ]
    requests = [resolve(one, asked.checkpoint, LIMITS).requests[0] for one in wanted]
    check_out(out.parent, [out], overwrite=overwrite)
    with problems.status(f"loading {asked.checkpoint.spec.id}"):
        model = load_chosen(asked.checkpoint, device, dtype)
    make_folder(out.parent)
    sheet = contact_sheet(list(draw(model, requests)), prompts, columns, scale)
    write_file(out, made_by_machine(sheet))
    say(str(out))


def resolve_each(wanted: Wanted, seed: int, n: int, checkpoint: Checkpoint) -> list[Generation]:
    """A generation for each of ``n`` seeds, as each becomes a file. Raises `InvalidField`."""
    first = resolve(replace(wanted, seed=seed), checkpoint, LIMITS)
    return [first.with_seed((seed + k) % SEEDS) for k in range(n)]


def write_files(
    generations: Sequence[Generation],
    checkpoint: Checkpoint,
    folder: Path,
    *,
    prefix: str = "",
    overwrite: bool,
    device: str,
    dtype: Precision,
) -> None:
    """Draws each and writes its file, named by ``prefix`` and its seed. Raises `UserError`, also
    for files that are there already.

    With equal numerics the files have the same bytes as the service's.
    """
    from model.loading import resolve_dtype
    from model.runtime.fixed_pass import mode_on
    from model.runtime.numerics import numerics

    paths = [folder / f"{prefix}{one.requests[0].seed}.{one.output.format}" for one in generations]
    check_out(folder, paths, overwrite=overwrite)
    with problems.status(f"loading {checkpoint.spec.id}"):
        model = load_chosen(checkpoint, device, dtype)
    name = numerics(
        digest=checkpoint.spec.digest,
        device=device,
        dtype=resolve_dtype(dtype, device),
        tile=model.tile,
        mode=mode_on(device),
        libraries=checkpoint.libraries(pipeline_settings()),
    )
    make_folder(folder)
    pictures = draw(model, [request for one in generations for request in one.requests])
    for generation, path in zip(generations, paths, strict=True):
        frames = list(islice(pictures, len(generation.requests)))
        write_file(path, encoded(generation, frames, name))
        say(str(path))


def encoded(generation: Generation, pictures: Sequence[Picture], numerics: str) -> bytes:
    """The file of a generation that is answered with one."""
    metadata = generation.metadata(0, numerics)
    if generation.walk:
        return encode_animation(pictures, generation.output, metadata)
    framing = generation.edit.framing if generation.edit else None
    return encode(pictures[0], generation.output, metadata, framing)


def draw(model: ImageModel[Any], requests: Sequence[ImageRequest]) -> Iterator[Picture]:
    """An image for each, under a bar with the steps done and the time left. Raises `UserError`."""
    from model.runtime.generate import generate as generate_all

    steps = [int(request.value("steps", 1)) for request in requests]
    with progress_bar() as bar:
        task = bar.add_task("drawing", total=sum(steps))
        pictures = generate_all(model, requests, lambda done: bar.advance(task, done))
        try:
            for count, picture in enumerate(pictures, 1):
                # What starts from an image may take fewer steps than were asked for.
                bar.update(task, completed=max(bar.tasks[task].completed, sum(steps[:count])))
                yield picture
        except RowFailed as error:
            raise UserError(str(error)) from error
