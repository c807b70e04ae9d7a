"""The ``tessera`` command: serve, draw, look at models, train, evaluate.

Only argument handling, progress bars and one-line errors live here. Whatever needs torch is
imported inside the command that needs it, so that ``tessera serve`` starts quickly.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from model.checkpoint import SHIPPED, Checkpoint, CheckpointError, Dtype, shipped
from model.protocol import SEEDS, Picture, RowRequest, Solver
from model.tokenizer import PromptTooLong

cli = typer.Typer(
    help="Serve image transformers over HTTP, draw with them, train your own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
output = Console()
problems = Console(stderr=True)


def main() -> None:
    """The console script."""
    cli()


class UserError(Exception):
    """Something the user can mend, said in one line."""


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (UserError, CheckpointError) as error:
        problems.print(f"[red]error:[/red] {error}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from error


def _bar(*columns: str) -> Progress:
    """A progress bar with extra fields, on the error stream so that output can be piped."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(column) for column in columns),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=problems,
    )


def _checkpoint(model: str | None) -> Checkpoint:
    """By folder, by the name of a shipped one, or the default. Raises `UserError`."""
    if model is None:
        folders = shipped()
        if not folders:
            raise UserError(f"no checkpoint in {SHIPPED}; give one with --model FOLDER")
        return Checkpoint.open(folders[0])
    named = SHIPPED / model
    return Checkpoint.open(named if named.is_dir() else Path(model))


@cli.command()
def serve() -> None:
    """Serve the models over HTTP. Settings come from TESSERA_… variables or .env."""
    from app.server import serve as run_server
    from app.settings import load_settings

    raise typer.Exit(run_server(load_settings()))


@cli.command()
def sign(
    address: Annotated[
        str, typer.Argument(help='For example "/v1/images/7.png?prompt=red%20apple".')
    ],
    hours: Annotated[float, typer.Option(min=0, help="Until it expires.")] = 24.0,
) -> None:
    """Sign a picture's address, so that it can be fetched without a key (TESSERA_URL_SECRET)."""
    from app.api.guard import signer_of
    from app.settings import load_settings

    with _one_line_errors():
        signer = signer_of(load_settings())
        if signer is None:
            raise UserError("no secret to sign with: set TESSERA_URL_SECRET, as the service has it")
        output.print(
            signer.sign(address, int(time.time() + 3600 * hours)), highlight=False, soft_wrap=True
        )


@cli.command()
def models() -> None:
    """List the checkpoints that ship."""
    with _one_line_errors():
        table = Table("model", "family", "size", "steps", "guidance", "digest", "what it draws")
        for folder in shipped():
            spec = Checkpoint.open(folder).spec
            table.add_row(
                spec.id,
                spec.family,
                f"{spec.size}x{spec.size}",
                f"{spec.steps.default:g}",
                f"{spec.guidance.default:g}",
                spec.digest[:12],
                spec.description,
            )
        output.print(table)


Prompted = Annotated[str, typer.Argument(help='For example "red apple, fluent 3d style".')]
Steps = Annotated[int | None, typer.Option(min=1, help="More are slower and finer.")]
Guidance = Annotated[
    float | None, typer.Option(min=0, help="Above 1: closer to the prompt, less varied.")
]
Chosen = Annotated[str | None, typer.Option(help="A shipped model's name or a folder.")]
Device = Annotated[str, typer.Option(help="cpu, cuda:0 …")]
Precision = Annotated[Literal["auto", "fp32", "bf16"], typer.Option(help="Precision.")]


def _draw(
    checkpoint: Checkpoint,
    prompts: list[tuple[str, int]],
    *,
    steps: int | None,
    guidance: float | None,
    solver: Solver | None,
    device: str,
    dtype: Dtype,
) -> Iterator[tuple[RowRequest, Picture]]:
    """Draws prompts with their seeds under a progress bar. Raises `UserError`."""
    from model.checkpoint import load_model
    from model.sampling import generate as draw

    spec = checkpoint.spec
    chosen = int(spec.steps.default) if steps is None else steps
    if chosen > spec.steps.high:
        raise UserError(f"--steps is {chosen}, {spec.id} takes 1 to {spec.steps.high:g}")
    requests = [
        RowRequest(
            prompt=prompt,
            seed=seed % SEEDS,
            steps=chosen,
            guidance=spec.guidance.default if guidance is None else guidance,
            solver=solver or spec.solver,
        )
        for prompt, seed in prompts
    ]
    model = load_model(checkpoint, device=device, dtype=dtype, tile=8)
    with _bar() as bar:
        task = bar.add_task("drawing", total=len(requests) * chosen)
        try:
            pictures = draw(model, requests, lambda done: bar.advance(task, done))
            yield from zip(requests, pictures, strict=True)
        except PromptTooLong as error:
            raise UserError(str(error)) from error


@cli.command()
def generate(
    prompt: Prompted = "",
    seed: Annotated[
        int, typer.Option(min=0, max=SEEDS - 1, help="The first picture's; the next ones follow.")
    ] = 0,
    n: Annotated[int, typer.Option("-n", min=1, help="How many pictures.")] = 1,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path(
        "out"
    ),
    steps: Steps = None,
    guidance: Guidance = None,
    solver: Annotated[Solver | None, typer.Option(help="ODE solver.")] = None,
    background: Annotated[
        str, typer.Option(help='"transparent" or a colour that Pillow knows.')
    ] = "white",
    model: Chosen = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Draw pictures without a server, into PNG files named by their seeds."""
    from model.report import to_image

    with _one_line_errors():
        drawn = _draw(
            _checkpoint(model),
            [(prompt, seed + k) for k in range(n)],
            steps=steps,
            guidance=guidance,
            solver=solver,
            device=device,
            dtype=dtype,
        )
        out.mkdir(parents=True, exist_ok=True)
        for request, picture in drawn:
            path = out / f"{request.seed}.png"
            to_image(picture, None if background == "transparent" else background).save(path)
            output.print(str(path), highlight=False)


@cli.command()
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

    with _one_line_errors():
        drawn = _draw(
            _checkpoint(model),
            [(prompt, seed) for prompt in prompts],
            steps=steps,
            guidance=guidance,
            solver=None,
            device=device,
            dtype=dtype,
        )
        pictures = [picture for _, picture in drawn]
        out.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(pictures, prompts, columns, scale).save(out)
        output.print(str(out), highlight=False)


class _TrainingBar:
    """Shows a run on the terminal; where there is none, a line every hundred steps."""

    def __init__(self, bar: Progress, steps: int) -> None:
        self._bar = bar
        self._task = bar.add_task("training", total=steps, loss="", rate="")

    def update(self, step: int, loss: float, pictures_per_second: float) -> None:
        rate = f"{pictures_per_second:.0f} images/s"
        self._bar.update(self._task, completed=step, loss=f"loss {loss:.4f}", rate=rate)
        if not problems.is_terminal and step % 100 == 0:
            problems.print(f"step {step}: loss {loss:.4f}, {rate}", highlight=False)

    def note(self, text: str) -> None:
        problems.print(text, highlight=False, soft_wrap=True)


@cli.command()
def train(
    data: Annotated[
        list[Path],
        typer.Argument(help="Emoji sets, a CIFAR-10 folder, or any folder of pictures."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The run's folder.")] = Path("runs/flow"),
    steps: Annotated[int, typer.Option(min=1, help="Steps in all.")] = 20_000,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a step.")] = 128,
    size: Annotated[int, typer.Option(help="Pixels along each side.")] = 64,
    patch: Annotated[int, typer.Option(help="Pixels along each side of a patch.")] = 8,
    width: Annotated[int, typer.Option(help="Channels of each token.")] = 256,
    depth: Annotated[int, typer.Option(min=1, help="Transformer blocks.")] = 8,
    channels: Annotated[int, typer.Option(min=3, max=4, help="3: RGB on white; 4: RGBA.")] = 4,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    cooldown: Annotated[
        float, typer.Option(min=0, max=1, help="Last part of the run, with a falling rate.")
    ] = 0.4,
    seed: int = 0,
    init: Annotated[
        Path | None,
        typer.Option(help="Checkpoint to begin from: its tokenizer and all weights that fit."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu"], typer.Option(help="auto takes a GPU where there is one.")
    ] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Faster steps after a slow first one.")
    ] = True,
    sample_every: Annotated[int, typer.Option(min=1)] = 1000,
    save_every: Annotated[int, typer.Option(min=1)] = 500,
    description: str = "pictures from prompts",
    licence: str = "not stated",
) -> None:
    """Train a flow transformer. The same command goes on where an interrupted run stopped.

    Several GPUs: accelerate launch -m app.cli train …
    """
    with _one_line_errors():
        try:
            from model.launch import TrainingOptions, start_training
        except ImportError as error:
            raise UserError(
                f"training needs {error.name}: pip install 'tessera-serve[train]'"
            ) from error
        from model.data.pictures import DataError
        from model.train import TrainingError

        options = TrainingOptions(
            data=tuple(data),
            out=out,
            steps=steps,
            batch=batch,
            size=size,
            patch=patch,
            width=width,
            depth=depth,
            channels=4 if channels == 4 else 3,
            learning_rate=learning_rate,
            cooldown=cooldown,
            seed=seed,
            init=init,
            cpu=device == "cpu",
            compiled=compiled,
            sample_every=sample_every,
            save_every=save_every,
            description=description,
            licence=licence,
        )
        try:
            with _bar("{task.fields[rate]}", "{task.fields[loss]}") as bar:
                folder = start_training(options, _TrainingBar(bar, steps))
        except (DataError, TrainingError, ValueError) as error:
            raise UserError(str(error)) from error
        output.print(f"{folder}", highlight=False)


@cli.command()
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
    with _one_line_errors():
        checkpoint = _checkpoint(model)
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
        with _bar() as bar:
            task = bar.add_task("evaluating", total=pictures * sampling.steps)
            for line in evaluation.run(lambda done: bar.advance(task, done)):
                lines.append(line)
                bar.console.print(
                    f"{line.style}, {line.split}, {line.prompt}: {line.retrieval}", highlight=False
                )
        write_report(out, evaluation, lines)
        output.print(str(out / "report.md"), highlight=False)


bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)
cli.add_typer(bench, name="bench")


@bench.command()
def tile(
    tiles: Annotated[
        list[int] | None, typer.Argument(min=2, help="Sizes to measure: 2 4 8 16 32 64.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="For each size.")] = 5.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    model: Chosen = None,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Time passes of several tile sizes and recommend one for TESSERA_TILE."""
    with _one_line_errors():
        checkpoint = _checkpoint(model)
        import torch

        from model.checkpoint import load_model
        from model.tile import measure, recommend

        if threads:
            torch.set_num_threads(threads)
        sizes = sorted(set(tiles or (2, 4, 8, 16, 32, 64)))
        steps = int(checkpoint.spec.steps.default)
        speeds = []
        with _bar() as bar:
            for size in bar.track(sizes, description="measuring"):
                loaded = load_model(checkpoint, device=device, dtype=dtype, tile=size)
                speeds.append(measure(loaded, seconds))
        table = Table("tile", "ms a step", "evaluations/s", "images/s", "ms an image")
        for speed in speeds:
            table.add_row(
                str(speed.tile),
                f"{1000 * speed.step_seconds:.1f}",
                f"{speed.evaluations_per_second:.0f}",
                f"{speed.images_per_second(steps):.2f}",
                f"{1000 * speed.image_seconds(steps):.0f}",
            )
        output.print(table)
        output.print(
            f"{steps} steps with guidance. Recommended: TESSERA_TILE={recommend(speeds).tile}, "
            "the smallest with 90 % of the best evaluations/s.",
            highlight=False,
        )


if __name__ == "__main__":
    main()
