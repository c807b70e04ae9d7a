"""``tessera evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.options import Chosen, Device, Guidance, Precision, Steps, open_checkpoint


def evaluate(
    data: Annotated[list[Path], typer.Argument(help="Emoji sets, as for training.")],
    model: Chosen = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")] = Path(
        "evaluation"
    ),
    n: Annotated[int, typer.Option("-n", min=8, help="Prompts for each style.")] = 500,
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Measure a checkpoint against real pictures: report.json, report.md and samples.png."""
    with one_line_errors():
        checkpoint = open_checkpoint(model)
        try:
            from model.evaluation.report import write_report
            from model.evaluation.retrieval import EmojiEvaluation
            from model.evaluation.sampling import Sampling
        except ImportError as error:
            raise UserError(
                f"evaluation needs {error.name}: pip install 'tessera-serve[train]'"
            ) from error
        from model.checkpoint import load_model
        from model.data.pictures import DataError

        spec = checkpoint.spec
        sampling = Sampling(
            steps=int(spec.steps.default) if steps is None else steps,
            guidance=spec.guidance.default if guidance is None else guidance,
        )
        loaded = load_model(checkpoint, device=device, dtype=dtype, tile=32)
        try:
            evaluation = EmojiEvaluation(loaded, data, sampling, n)
        except DataError as error:
            raise UserError(str(error)) from error
        pictures = sum(len(job.records) for job in evaluation.plan())
        lines = []
        with progress_bar() as bar:
            task = bar.add_task("evaluating", total=pictures * sampling.steps)
            for line in evaluation.run(lambda done: bar.advance(task, done)):
                lines.append(line)
                bar.console.print(
                    f"{line.style}, {line.split}, {line.prompt}: {line.retrieval}", highlight=False
                )
        write_report(out, evaluation, lines)
        output.print(str(out / "report.md"), highlight=False)
