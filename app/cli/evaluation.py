"""``tessera evaluate``: a checkpoint, measured against real images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from app.cli.console import UserError, output, progress_bar, say
from app.cli.options import Asked, Device, Precision, check_out, load_chosen

if TYPE_CHECKING:
    from model.evaluation.report import Report

TILE = 32

Data = Annotated[list[Path], typer.Argument(help="Emoji sets, as for training.")]
Images = Annotated[
    list[Path], typer.Argument(help="A folder of images with captions, as for training.")
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")]


class Evaluation(Protocol):
    """See `model.evaluation`."""

    @property
    def steps(self) -> int: ...

    def run(self, on_step: Callable[[int], None]) -> Iterator[Any]: ...

    def report(self) -> Report: ...


def evaluate(
    ctx: typer.Context,
    data: Images,
    out: Out = Path("evaluation"),
    n: Annotated[
        int, typer.Option("-n", min=8, help="Prompts; of emoji sets, for each style.")
    ] = 500,
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Are images what their prompts asked for, and like real ones? How long do they take?

    Half of the images are asked for by their captions; figures of real images are beside those of
    the drawn ones. Writes report.json, report.md and samples.png.
    """
    check_out(out)
    with evaluating():
        from model.data.emoji import is_set
        from model.evaluation.assessment import Assessment
        from model.evaluation.metrics import load_encoder
        from model.evaluation.own_images import OwnImages
        from model.evaluation.sampling import Sampler

        asked: Asked = ctx.obj
        sampler = Sampler(load_chosen(asked.checkpoint, device, dtype, TILE), asked.parameters)
        served = load_chosen(asked.checkpoint, device, dtype)
        encoder = load_encoder()
        measured: Evaluation
        if any(map(is_set, data)):
            measured = Assessment(sampler, served, data, encoder, count=n, device=device)
        elif len(data) > 1:
            raise UserError(f"{len(data)} folders were given, only emoji sets may be several")
        else:
            checkpoint = asked.checkpoint
            measured = OwnImages(
                sampler, served, checkpoint, data[0], encoder, count=n, device=device
            )
        carry_out(measured, "evaluating", out)


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
    """Shows each line as it is known, then the report, and writes it into ``out``.

    Raises `UserError` where that cannot be written to.
    """
    check_out(out)
    with progress_bar() as bar:
        task = bar.add_task(doing, total=measured.steps)
        for line in measured.run(partial(bar.advance, task)):
            bar.console.print(str(line), highlight=False, markup=False)
    report = measured.report()
    output.print(report.text, highlight=False, soft_wrap=True, markup=False)
    try:
        say(str(report.write(out)))
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from error
