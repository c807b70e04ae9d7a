"""``tessera evaluate encoder``, ``families``, ``cas``: figures that need more than one checkpoint's
pictures, and what they rest on.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.evaluation import Data, Out, check_extra, load
from app.cli.options import Chosen, Device, Guidance, Precision, Steps, open_checkpoint
from model.checkpoint import shipped
from model.evaluation import SHIPPED_ENCODER


def encoder(
    data: Data,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The safetensors file; the default is what ships.")
    ] = SHIPPED_ENCODER,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 4000,
) -> None:
    """Train the encoder in whose features sets of pictures are compared."""
    with one_line_errors():
        check_extra()
        from model.data.pictures import DataError
        from model.evaluation.encoder import save_encoder
        from model.evaluation.encoder_training import EncoderTraining, train_encoder, twins_found

        try:
            with progress_bar("loss {task.fields[loss]:.3f}") as bar:
                task = bar.add_task("training", total=steps, loss=float("nan"))
                trained = train_encoder(
                    data,
                    EncoderTraining(steps),
                    lambda loss: bar.update(task, advance=1, loss=loss),
                )
            found = twins_found(trained, data)
        except DataError as error:
            raise UserError(str(error)) from error
        save_encoder(trained, out)
        if found is not None:
            output.print(f"twins of held-out pictures that are nearest: {found}", highlight=False)
        output.print(str(out), highlight=False)


def families(
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
    with one_line_errors():
        check_extra()
        from model.data.pictures import DataError
        from model.evaluation.assessment import Assessment
        from model.evaluation.comparison import PageError, compare, sketch
        from model.evaluation.encoder import load_encoder

        checkpoints = [open_checkpoint(each) for each in model or map(str, shipped())]
        reports, sketches = [], []
        try:
            with progress_bar() as bar:
                for checkpoint in checkpoints:
                    assessment = Assessment(
                        checkpoint, data, load_encoder(), count=n, device=device, dtype=dtype
                    )
                    task = bar.add_task(checkpoint.spec.id, total=assessment.steps)
                    advance = partial(bar.advance, task)
                    reports.append(assessment.run(advance))
                    sketches.append(sketch(checkpoint, device=device, dtype=dtype))
            comparison = compare(reports, sketches, data)
            output.print(comparison.tables(), highlight=False, soft_wrap=True)
            output.print(comparison.speeds(), highlight=False, soft_wrap=True)
            comparison.write(page)
        except (DataError, OSError, PageError) as error:
            raise UserError(str(error)) from error
        output.print(str(page), highlight=False)


def cas(
    data: Annotated[Path, typer.Argument(help="A CIFAR-10 folder.")],
    model: Chosen = None,
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=1, help="Pictures of each class.")] = 1000,
    training: Annotated[int, typer.Option(min=1, help="Steps of each classifier.")] = 1500,
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """What does a classifier learn from drawn pictures, against real ones? Writes cas.md."""
    with one_line_errors():
        check_extra()
        from model.data.pictures import DataError
        from model.evaluation.cas import CasEvaluation, CasTraining, write_cas_report

        loaded, sampling = load(model, steps, guidance, device, dtype)
        try:
            evaluation = CasEvaluation(loaded, data, sampling, n, CasTraining(training))
        except DataError as error:
            raise UserError(str(error)) from error
        with progress_bar() as bar:
            task = bar.add_task("drawing and learning", total=evaluation.steps)
            report = evaluation.run(partial(bar.advance, task))
        write_cas_report(out, report, evaluation.sheet)
        output.print(report.as_markdown(), highlight=False, soft_wrap=True)
        output.print(str(out / "cas.md"), highlight=False)
