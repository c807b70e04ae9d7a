"""``python -m tools.evaluate``: what the cards and pages of this repository report of its models.

How well transforms restore images (docs/transform.md), whether images are named rightly, what a
codec keeps of them (the gpt's card), what a classifier learns from CIFAR-10 images that were drawn
(docs/families.md), whether everyday wordings are understood and whether what styles lack was drawn
rightly (docs/training.md).
``tessera evaluate`` has what is measured of any model.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.evaluation import TILE, Data, Out, carry_out, evaluating
from app.cli.options import (
    Asked,
    Chosen,
    Device,
    ModelCommand,
    Precision,
    choose_model,
    load_chosen,
)
from model.evaluation.metrics import load_encoder
from model.evaluation.sampling import Sampler
from model.gpt.codec_training import codec_of
from tools.cas import CasEvaluation, CasTraining
from tools.naming import Describer, NamingEvaluation
from tools.reconstruction import CodecEvaluation, reconstruction_table
from tools.steps import StepsEvaluation
from tools.synthetic import SyntheticEvaluation, synthetic_table
from tools.transforms import TransformEvaluation
from tools.words import WordsEvaluation

evaluation = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Measure a checkpoint against real images."
)


@evaluation.command(cls=ModelCommand)
def transform(
    ctx: typer.Context,
    data: Data,
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=1, help="Held-out images for each task.")] = 48,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """How well are held-out images restored? Writes transform.json, transform.md, transform.png.

    Images are corrupted, restored and compared with themselves, beside methods without a model.
    Guidance is 1 where it is not given: more is sharper, and further from the original.
    """
    with evaluating():
        asked: Asked = ctx.obj
        spec = asked.checkpoint.spec
        if missing := {"vary", "inpaint", "upscale", "colorize", "denoise"} - {*spec.operations}:
            raise UserError(f"{spec.id} cannot {', '.join(sorted(missing))}")
        given = {"guidance": 1.0} if spec.parameter("guidance") else {}
        loaded = load_chosen(asked.checkpoint, device, dtype, TILE)
        sampler = Sampler(loaded, given | {**asked.parameters})
        carry_out(TransformEvaluation(sampler, data, n), "transforming", out)


@evaluation.command(cls=ModelCommand)
def steps(
    ctx: typer.Context,
    data: Data,
    counts: Annotated[str, typer.Option(help="Of steps.")] = "1,2,3,4,6,8,12,20",
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=8, help="Prompts for each style.")] = 100,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """How good are images after few steps, and after many? Writes steps.json, .md and .png."""
    with evaluating():
        asked: Asked = ctx.obj
        loaded = load_chosen(asked.checkpoint, device, dtype, TILE)
        listed = [int(count) for count in counts.split(",")]
        given = {name: value for name, value in asked.parameters.items() if name != "steps"}
        measured = StepsEvaluation(loaded, given, data, load_encoder(), listed, n)
        carry_out(measured, "drawing", out)


@evaluation.command()
def describe(
    data: Data,
    model: Chosen = None,
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=1, help="Images of each style and split.")] = 200,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Are images named rightly? Writes describe.json, describe.md and describe.png."""
    with one_line_errors(), evaluating():
        checkpoint = choose_model(model)
        if "describe" not in checkpoint.spec.operations:
            raise UserError(f"{checkpoint.spec.id} cannot describe")
        loaded = cast("Describer", load_chosen(checkpoint, device, dtype, TILE))
        carry_out(NamingEvaluation(loaded, data, n), "describing", out)


@evaluation.command()
def codec(
    data: Data,
    model: Annotated[Path, typer.Option(help="A codec's folder, or that of a gpt over it.")],
) -> None:
    """What do a codec's codes keep of images, and how many of them are in use?"""
    with one_line_errors(), evaluating():
        measured = CodecEvaluation(codec_of(model), data)
        with progress_bar() as bar:
            task = bar.add_task("through codes", total=measured.steps)
            lines = list(measured.run(partial(bar.advance, task)))
        output.print(reconstruction_table(lines), highlight=False, soft_wrap=True)


@evaluation.command()
def synthetic(
    data: Data,
    drawn: Annotated[Path, typer.Option(help="The folder that tools.counterparts has written.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Held-out images of each style.")] = 120,
) -> None:
    """Is what was drawn of images that a style lacks nearest to the real ones?"""
    with one_line_errors(), evaluating():
        measured = SyntheticEvaluation(data, drawn, n)
        with progress_bar() as bar:
            task = bar.add_task("comparing", total=measured.steps)
            lines = list(measured.run(partial(bar.advance, task)))
        output.print(synthetic_table(lines), highlight=False, soft_wrap=True)


@evaluation.command(cls=ModelCommand)
def cas(
    ctx: typer.Context,
    data: Annotated[Path, typer.Argument(help="A CIFAR-10 folder.")],
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=1, help="Images of each class.")] = 1000,
    training: Annotated[int, typer.Option(min=1, help="Steps of each classifier.")] = 1500,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """What does a classifier learn from drawn images, against real ones? Writes cas.md."""
    with evaluating():
        asked: Asked = ctx.obj
        sampler = Sampler(load_chosen(asked.checkpoint, device, dtype, TILE), asked.parameters)
        cas_evaluation = CasEvaluation(sampler, data, n, CasTraining(training))
        carry_out(cas_evaluation, "drawing and learning", out)


@evaluation.command(cls=ModelCommand)
def words(
    ctx: typer.Context,
    data: Data,
    style: Annotated[str, typer.Option(help="Of the images, as captions name it.")] = "fluent 3d",
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=1, help="Prompts of two keywords.")] = 200,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Is what people ask for in their own words found? Writes words.json, words.md, words.png.

    Texts are those of tools/everyday.jsonl, in English and in 16 other languages.
    """
    with evaluating():
        asked: Asked = ctx.obj
        sampler = Sampler(load_chosen(asked.checkpoint, device, dtype, TILE), asked.parameters)
        carry_out(WordsEvaluation(sampler, data, style, n), "drawing", out)


if __name__ == "__main__":
    evaluation()
