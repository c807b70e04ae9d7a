"""``tessera evaluate``: prompts (also without a word), transform, describe, codec, cas.

Each measures a checkpoint against real images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import typer
from typer.core import TyperGroup

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.options import (
    Asked,
    Chosen,
    Device,
    ModelCommand,
    Precision,
    choose_model,
    load,
)

if TYPE_CHECKING:
    from model.evaluation.naming import Describer
    from model.evaluation.report import Report

TILE = 32

Data = Annotated[list[Path], typer.Argument(help="Emoji sets, as for training.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")]


class Evaluation(Protocol):
    """See `model.evaluation`."""

    @property
    def steps(self) -> int: ...

    def run(self, on_step: Callable[[int], None]) -> Iterator[Any]: ...

    def report(self) -> Report: ...


class PromptsByDefault(TyperGroup):
    """``evaluate DATA`` means ``evaluate prompts DATA``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["prompts", *args]
        return super().parse_args(ctx, args)


evaluation = typer.Typer(
    cls=PromptsByDefault,
    no_args_is_help=True,
    help="Measure a checkpoint against real images. Without a command: prompts.",
)


@evaluation.command(cls=ModelCommand)
def prompts(
    ctx: typer.Context,
    data: Data,
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=8, help="Prompts for each style.")] = 500,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Are images what their prompts asked for, and like real ones? How long do they take?

    Writes report.json, report.md and samples.png.
    """
    with evaluating():
        from model.evaluation.assessment import Assessment
        from model.evaluation.encoder import load_encoder
        from model.evaluation.sampling import Sampler

        asked: Asked = ctx.obj
        sampler = Sampler(load(asked.checkpoint, device, dtype, TILE), asked.parameters)
        served = load(asked.checkpoint, device, dtype)
        assessment = Assessment(sampler, served, data, load_encoder(), count=n, device=device)
        carry_out(assessment, "evaluating", out)


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
        from model.evaluation.sampling import Sampler
        from model.evaluation.transforms import TransformEvaluation

        asked: Asked = ctx.obj
        spec = asked.checkpoint.spec
        if missing := {"vary", "inpaint", "upscale", "colorize", "denoise"} - {*spec.operations}:
            raise UserError(f"{spec.id} cannot {', '.join(sorted(missing))}")
        given = {"guidance": 1.0} if spec.parameter("guidance") else {}
        loaded = load(asked.checkpoint, device, dtype, TILE)
        sampler = Sampler(loaded, given | {**asked.parameters})
        carry_out(TransformEvaluation(sampler, data, n), "transforming", out)


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
        from model.evaluation.naming import NamingEvaluation

        checkpoint = choose_model(model)
        if "describe" not in checkpoint.spec.operations:
            raise UserError(f"{checkpoint.spec.id} cannot describe")
        loaded = cast("Describer", load(checkpoint, device, dtype, TILE))
        carry_out(NamingEvaluation(loaded, data, n), "describing", out)


@evaluation.command()
def codec(
    data: Data,
    model: Annotated[Path, typer.Option(help="A codec's folder, or that of a gpt over it.")],
) -> None:
    """What do a codec's codes keep of images, and how many of them are in use?"""
    with one_line_errors(), evaluating():
        from model.evaluation.reconstruction import CodecEvaluation, reconstruction_table
        from model.gpt.codec_training import codec_of

        measured = CodecEvaluation(codec_of(model), data)
        with progress_bar() as bar:
            task = bar.add_task("through codes", total=measured.steps)
            lines = list(measured.run(partial(bar.advance, task)))
        output.print(reconstruction_table(lines), highlight=False, soft_wrap=True)


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
        from model.evaluation.cas import CasEvaluation, CasTraining
        from model.evaluation.sampling import Sampler

        asked: Asked = ctx.obj
        sampler = Sampler(load(asked.checkpoint, device, dtype, TILE), asked.parameters)
        cas_evaluation = CasEvaluation(sampler, data, n, CasTraining(training))
        carry_out(cas_evaluation, "drawing and learning", out)


@contextlib.contextmanager
def evaluating() -> Iterator[None]:
    """Raises `UserError` where a package of the extra is missing, or data is broken."""
    try:
        import emoji  # noqa: F401
        import skimage  # noqa: F401
        import torchmetrics  # noqa: F401
    except ImportError as error:
        install = "pip install 'tessera-serve[train]'"
        raise UserError(f"evaluation needs {error.name}: {install}") from error
    from model.data.pictures import DataError

    try:
        yield
    except DataError as error:
        raise UserError(str(error)) from error


def carry_out(measured: Evaluation, doing: str, out: Path) -> None:
    """Shows each line as it is known, then the report, and writes it into ``out``."""
    with progress_bar() as bar:
        task = bar.add_task(doing, total=measured.steps)
        for line in measured.run(partial(bar.advance, task)):
            bar.console.print(str(line), highlight=False)
    report = measured.report()
    output.print(report.text, highlight=False, soft_wrap=True, markup=False)
    output.print(str(report.write(out)), highlight=False)
