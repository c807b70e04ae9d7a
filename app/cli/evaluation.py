"""``tessera evaluate``: prompts (also without a word), transform, describe, codec.

Each measures a checkpoint against real pictures. `app.cli.measures` has more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.options import Chosen, Device, Guidance, Precision, Steps, open_checkpoint

if TYPE_CHECKING:
    from model.evaluation.naming import Describer
    from model.evaluation.sampling import Sampling
    from model.protocol import ImageModel

TILE = 32

Data = Annotated[list[Path], typer.Argument(help="Emoji sets, as for training.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")]


class PromptsByDefault(TyperGroup):
    """``evaluate DATA`` means ``evaluate prompts DATA``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["prompts", *args]
        return super().parse_args(ctx, args)


evaluation = typer.Typer(
    cls=PromptsByDefault,
    no_args_is_help=True,
    help="Measure a checkpoint against real pictures. Without a command: prompts.",
)


@evaluation.command()
def prompts(
    data: Data,
    model: Chosen = None,
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=8, help="Prompts for each style.")] = 500,
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Are pictures what their prompts asked for, and like real ones? How long do they take?

    Writes report.json, report.md and samples.png.
    """
    with one_line_errors():
        check_extra()
        from model.data.pictures import DataError
        from model.evaluation.assessment import Assessment
        from model.evaluation.encoder import load_encoder
        from model.evaluation.report import write_report

        try:
            assessment = Assessment(
                open_checkpoint(model),
                data,
                load_encoder(),
                count=n,
                steps=steps,
                guidance=guidance,
                device=device,
                dtype=dtype,
            )
        except DataError as error:
            raise UserError(str(error)) from error
        with progress_bar() as bar:
            task = bar.add_task("evaluating", total=assessment.steps)
            report = assessment.run(
                lambda done: bar.advance(task, done),
                lambda line: bar.console.print(str(line), highlight=False),
            )
        write_report(out, report, assessment.prompted)
        output.print(str(out / "report.md"), highlight=False)


@evaluation.command()
def transform(
    data: Data,
    model: Chosen = None,
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=1, help="Held-out pictures for each task.")] = 48,
    steps: Steps = None,
    guidance: Annotated[
        float, typer.Option(min=0, help="More is sharper, and further from the original.")
    ] = 1.0,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """How well are held-out pictures repaired? Writes transform.json, transform.md, transform.png.

    Pictures are spoiled, repaired and compared with themselves, beside methods without a model.
    """
    with one_line_errors():
        check_extra()
        from model.data.pictures import DataError
        from model.evaluation.repair import RepairEvaluation
        from model.evaluation.repair_report import write_repair_report
        from model.evaluation.restyling import RestyleEvaluation

        loaded, sampling = load(model, steps, guidance, device, dtype)
        missing = {"vary", "inpaint", "upscale", "colorize", "denoise"} - {*loaded.spec.operations}
        if missing:
            raise UserError(f"{loaded.spec.id} cannot {', '.join(sorted(missing))}")
        try:
            evaluation = RepairEvaluation(loaded, data, sampling, n)
            restyling = RestyleEvaluation(loaded, data, sampling, n)
        except DataError as error:
            raise UserError(str(error)) from error
        lines, restyles = [], []
        with progress_bar() as bar:
            task = bar.add_task("repairing", total=evaluation.steps + restyling.steps)
            for line in evaluation.run(lambda done: bar.advance(task, done)):
                lines.append(line)
                best = line.others[line.baseline]
                bar.console.print(
                    f"{line.task}: {line.mean.psnr:.2f} dB, {line.baseline} {best.psnr:.2f} dB",
                    highlight=False,
                )
            for restyle in restyling.run(lambda done: bar.advance(task, done)):
                restyles.append(restyle)
                bar.console.print(
                    f"restyle from {restyle.start}, {restyle.prompt}: {restyle.twin}",
                    highlight=False,
                )
        write_repair_report(out, evaluation, lines, restyling, restyles)
        output.print(str(out / "transform.md"), highlight=False)


@evaluation.command()
def describe(
    data: Data,
    model: Chosen = None,
    out: Out = Path("evaluation"),
    n: Annotated[int, typer.Option("-n", min=1, help="Pictures of each style and split.")] = 200,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Are pictures named rightly? Writes describe.json, describe.md and describe.png."""
    with one_line_errors():
        check_extra()
        from model.data.pictures import DataError
        from model.evaluation.naming import NamingEvaluation
        from model.evaluation.naming_report import write_naming_report

        loaded, _ = load(model, None, None, device, dtype)
        if "describe" not in loaded.spec.operations:
            raise UserError(f"{loaded.spec.id} cannot describe")
        try:
            evaluation = NamingEvaluation(cast("Describer", loaded), data, n)
        except DataError as error:
            raise UserError(str(error)) from error
        lines = []
        with progress_bar() as bar:
            task = bar.add_task("describing", total=evaluation.steps)
            for line in evaluation.run(lambda done: bar.advance(task, done)):
                lines.append(line)
                bar.console.print(
                    f"{line.style}, {line.split}: first label {line.label}, caption {line.words}",
                    highlight=False,
                )
        write_naming_report(out, evaluation, lines)
        output.print(str(out / "describe.md"), highlight=False)


@evaluation.command()
def codec(
    data: Data,
    model: Annotated[Path, typer.Option(help="A codec's folder, or that of a gpt over it.")],
) -> None:
    """What do a codec's codes keep of pictures, and how many of them are in use?"""
    with one_line_errors():
        check_extra()
        from model.data.pictures import DataError
        from model.evaluation.reconstruction import CodecEvaluation, reconstruction_as_markdown
        from model.gpt.codec_folder import codec_of

        try:
            evaluation = CodecEvaluation(codec_of(model), data)
        except DataError as error:
            raise UserError(str(error)) from error
        with progress_bar() as bar:
            task = bar.add_task("through codes", total=evaluation.pictures)
            lines = list(evaluation.run(lambda count: bar.advance(task, count)))
        output.print(reconstruction_as_markdown(lines), highlight=False, soft_wrap=True)


def check_extra() -> None:
    """Raises `UserError` where the packages of evaluation are not installed."""
    try:
        import emoji  # noqa: F401
        import skimage  # noqa: F401
        import torchmetrics  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"evaluation needs {error.name}: pip install 'tessera-serve[train]'"
        ) from error


def load(
    model: str | None, steps: int | None, guidance: float | None, device: str, dtype: Any
) -> tuple[ImageModel[Any], Sampling]:
    """The model, and how to draw with it."""
    from model.checkpoint import load_model
    from model.evaluation.sampling import Sampling

    checkpoint = open_checkpoint(model)
    spec = checkpoint.spec
    return load_model(checkpoint, device=device, dtype=dtype, tile=TILE), Sampling(
        steps=int(spec.steps.default) if steps is None else steps,
        guidance=spec.guidance.default if guidance is None else guidance,
    )
