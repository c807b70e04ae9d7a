"""``tessera generate`` and ``tessera sheet``: pictures from prompts, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.options import (
    Chosen,
    Device,
    Guidance,
    Precision,
    Prompt,
    Steps,
    Temperature,
    TopK,
    TopP,
    open_checkpoint,
)
from app.operations import Misfit
from app.pictures import animated
from app.sampling import token_sampling
from model.checkpoint import Checkpoint, Dtype
from model.protocol import SEEDS, ModelSpec, Picture, RowRequest, Solver
from model.tokenizer import PromptTooLong


def ask(
    spec: ModelSpec,
    prompt: str,
    seed: int,
    *,
    steps: int | None,
    guidance: float | None,
    solver: Solver | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> RowRequest:
    """A picture from a prompt, defaults filled in. Raises `UserError`."""
    chosen = int(spec.steps.default) if steps is None else steps
    if not spec.steps.low <= chosen <= spec.steps.high:
        accepted = f"{spec.steps.low:g} to {spec.steps.high:g}"
        raise UserError(f"--steps is {chosen}, {spec.id} takes {accepted}")
    try:
        sampling = token_sampling(spec, temperature=temperature, top_k=top_k, top_p=top_p)
    except Misfit as error:
        raise UserError(f"--{error.field.replace('_', '-')} {error}") from error
    return RowRequest(
        prompt=prompt,
        seed=seed % SEEDS,
        steps=chosen,
        guidance=spec.guidance.default if guidance is None else guidance,
        solver=solver or spec.solver,
        sampling=sampling,
    )


def draw_all(
    checkpoint: Checkpoint, requests: Sequence[RowRequest], *, device: str, dtype: Dtype
) -> Iterator[tuple[RowRequest, Picture]]:
    """Draws under a progress bar; each picture with its request. Raises `UserError`."""
    from model.checkpoint import load_model
    from model.numerics import settle
    from model.sampling import generate as draw

    settle(device)
    model = load_model(checkpoint, device=device, dtype=dtype)
    with progress_bar() as bar:
        task = bar.add_task("drawing", total=sum(request.steps for request in requests))
        try:
            pictures = draw(model, requests, lambda done: bar.advance(task, done))
            yield from zip(requests, pictures, strict=True)
        except PromptTooLong as error:
            raise UserError(str(error)) from error


def generate(
    prompt: Prompt = "",
    seed: Annotated[
        int, typer.Option(min=0, max=SEEDS - 1, help="The first picture's; the next ones follow.")
    ] = 0,
    n: Annotated[int, typer.Option("-n", min=1, help="How many pictures.")] = 1,
    walk: Annotated[
        int | None,
        typer.Option(min=2, help="Frames of an animated WebP from the seed's picture and back."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path(
        "out"
    ),
    steps: Steps = None,
    guidance: Guidance = None,
    solver: Annotated[Solver | None, typer.Option(help="ODE solver.")] = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    background: Annotated[
        str, typer.Option(help='"transparent" or a colour that Pillow knows.')
    ] = "white",
    model: Chosen = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Draw pictures without a server, into PNG files named by their seeds.

    With --walk, each is an animated WebP instead: its seed's picture turns into others, the next
    seed's among them, and back again.
    """
    from model.report import to_image

    with one_line_errors():
        checkpoint = open_checkpoint(model)
        if walk and "walk" not in checkpoint.spec.operations:
            raise UserError(f"{checkpoint.spec.id} cannot walk")
        first = [
            ask(
                checkpoint.spec,
                prompt,
                seed + k,
                steps=steps,
                guidance=guidance,
                solver=solver,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
            )
            for k in range(n)
        ]
        requests = [frame for request in first for frame in _frames(request, walk)]
        drawn = draw_all(checkpoint, requests, device=device, dtype=dtype)
        ground = None if background == "transparent" else background
        out.mkdir(parents=True, exist_ok=True)
        images: list[Image.Image] = []
        for request, picture in drawn:
            images.append(to_image(picture, ground))
            if len(images) < (walk or 1):
                continue
            path = out / f"{request.seed}.{'webp' if walk else 'png'}"
            if walk:
                path.write_bytes(animated(images, "webp"))
            else:
                images[0].save(path)
            output.print(str(path), highlight=False)
            images.clear()


def _frames(request: RowRequest, walk: int | None) -> list[RowRequest]:
    """The frames of its walk, or the picture alone."""
    if walk is None:
        return [request]
    return [replace(request, operation="walk", turn=k / walk) for k in range(walk)]


def sheet(
    prompts: Annotated[list[str], typer.Argument(help="One picture for each.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The PNG file.")] = Path("sheet.png"),
    seed: Annotated[int, typer.Option(min=0, max=SEEDS - 1, help="The same for all.")] = 0,
    columns: Annotated[int, typer.Option(min=1)] = 8,
    scale: Annotated[int, typer.Option(min=1, help="Times that pictures are enlarged.")] = 2,
    steps: Steps = None,
    guidance: Guidance = None,
    model: Chosen = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Draw several prompts into one contact sheet."""
    from model.report import contact_sheet

    with one_line_errors():
        checkpoint = open_checkpoint(model)
        requests = [
            ask(checkpoint.spec, prompt, seed, steps=steps, guidance=guidance) for prompt in prompts
        ]
        drawn = draw_all(checkpoint, requests, device=device, dtype=dtype)
        pictures = [picture for _, picture in drawn]
        out.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(pictures, prompts, columns, scale).save(out)
        output.print(str(out), highlight=False)
