"""``tessera train``."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress, TaskID

from app.cli.console import UserError, one_line_errors, output, problems, progress_bar
from model.registry import RECIPES
from model.training.progress import ProgressReport

TRAINED = tuple(RECIPES)

CHOSEN = "Chosen where it is not given."


SPOKEN = 30.0
"""Seconds between two lines of a run that is not shown on a terminal."""


class _TrainingBar(ProgressReport):
    """Shows a run on the terminal; where there is none, a line now and then."""

    def __init__(self, bar: Progress, watch: bool) -> None:
        self._bar = bar
        self._watch = watch
        self.signal: int | None = None  # that ended the run early
        self._task: TaskID | None = None
        self._spoken = time.monotonic()
        self._left = ""
        self._reading: TaskID | None = None
        self._read_since = time.monotonic()

    def update(self, step: int, loss: float, images_per_second: float) -> None:
        rate = f"{images_per_second:.0f} images/s"
        fields: dict[str, Any] = {"loss": f"loss {loss:.4f}", "rate": rate, "left": self._left}
        if self._task is None:
            self._task = self._bar.add_task("training", total=None, **fields)
        self._bar.update(self._task, completed=step, **fields)
        self._speak(f"step {step}: loss {loss:.4f}, {rate}, {self._left}")

    def expect(self, steps: int, seconds: float) -> None:
        self._left = f"{timedelta(seconds=round(seconds))} left"
        if self._task is not None:
            self._bar.update(self._task, total=steps, left=self._left)

    def page(self, path: Path) -> None:
        self.note(f"the loss and what is drawn, as it comes: {path}")
        if self._watch:
            typer.launch(path.resolve().as_uri())

    def reading(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._reading is None:
            self._read_since = now
            self._reading = self._bar.add_task("reading", total=total, loss="", rate="", left="")
        took = now - self._read_since
        left = f"{timedelta(seconds=round(took * (total - done) / done))} left" if done else ""
        self._bar.update(self._reading, completed=done, left=left)
        self._speak(f"read {done} of {total} images, {left}")

    def note(self, text: str) -> None:
        problems.print(text, highlight=False, soft_wrap=True, markup=False)

    def interrupted(self, signal: int) -> None:
        self.signal = signal

    def _speak(self, line: str) -> None:
        """Now and then, where no terminal shows the bar."""
        now = time.monotonic()
        if not problems.is_terminal and now - self._spoken >= SPOKEN:
            self._spoken = now
            problems.print(line, highlight=False)


def train(
    data: Annotated[
        list[Path],
        typer.Argument(
            help="A folder of images, with captions in captions.jsonl, metadata.jsonl or "
            "metadata.csv, a .txt beside each, or the names of folders; or one of parquet files; "
            "emoji sets and words; CIFAR-10."
        ),
    ],
    family: Annotated[
        str,
        typer.Option(
            help=f"What to train: {', '.join(TRAINED)}. A codec comes before what is trained over "
            "its codes.",
        ),
    ] = TRAINED[0],
    codec: Annotated[
        Path | None, typer.Option(help="The checkpoint of a codec to train over its codes.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The run's folder: runs/ and the family.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help=f"End after so long in all. {CHOSEN}"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps in all; with --minutes, whichever comes first."),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help=f"Images a step. {CHOSEN}")] = None,
    size: Annotated[int | None, typer.Option(help=f"Pixels along each side. {CHOSEN}")] = None,
    patch: Annotated[
        int | None, typer.Option(min=1, help=f"Pixels along each side of a patch. {CHOSEN}")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help=f"Channels of each token. {CHOSEN}")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, help=f"Transformer blocks. {CHOSEN}")] = None,
    channels: Annotated[int, typer.Option(min=3, max=4, help="3: RGB on white; 4: RGBA.")] = 4,
    learning_rate: Annotated[float | None, typer.Option(min=0)] = None,
    cooldown: Annotated[
        float, typer.Option(min=0, max=1, help="Last part of the run, with a falling rate.")
    ] = 0.4,
    average: Annotated[
        float, typer.Option(min=0, max=0.99999, help="Decay of the weights' moving average.")
    ] = 0.995,
    vocabulary: Annotated[
        int | None,
        typer.Option(min=300, help="Tokens of a new tokenizer; else that of --init, or 2,048."),
    ] = None,
    detail_width: Annotated[
        int, typer.Option(min=0, help="Hidden width of a second way to each patch; 0: none.")
    ] = 0,
    polish_channels: Annotated[
        int, typer.Option(min=0, help="Flow: channels of convolutions at full size; 0: none.")
    ] = 0,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="A folder with a tokenizer and its tokens' vectors, which then are not trained: "
            "python -m tools.word_vectors."
        ),
    ] = None,
    seed: int = 0,
    init: Annotated[
        Path | None,
        typer.Option(
            help="What to begin from, by name or folder: a checkpoint of the same family or one "
            "whose weights fit. Patch layers grow with the images."
        ),
    ] = None,
    new_data: Annotated[
        bool, typer.Option("--new-data", help="Let a run go on with other images or captions.")
    ] = False,
    device: Annotated[
        Literal["auto", "cpu"], typer.Option(help="auto takes a GPU where there is one.")
    ] = "auto",
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help=f"Faster steps after a slow first one. {CHOSEN}"
        ),
    ] = None,
    sample_every: Annotated[
        int | None,
        typer.Option(min=1, help="Steps; else after a minute, then ever more rarely."),
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(min=1, help="Steps; else every minute or so.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Open the run's page in a browser.")
    ] = False,
    description: str = "images from prompts",
    license: str = "not stated",  # noqa: A002 - the field's name
) -> None:
    """Train a model. The same command goes on where an interrupted run stopped.

    What is not given is chosen for the images and the machine, and kept with the run.

    Several GPUs: accelerate launch -m app.cli train …
    """
    with one_line_errors():
        if family not in TRAINED:
            raise UserError(f"--family {family} was given, there are {', '.join(TRAINED)}")
        # Threads that wait must not keep other processes from a core; set before torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            from model.training.choices import Choices
            from model.training.recipe import TrainingOptions
            from model.training.start import start_training
        except ImportError as error:
            raise UserError(
                f"training needs {error.name}: pip install 'tessera-serve[train]'"
            ) from error
        from model.data.pictures import DataError
        from model.training.recipe import TrainingError

        options = TrainingOptions(
            data=tuple(data),
            out=out or Path("runs") / family,
            channels=4 if channels == 4 else 3,
            learning_rate=learning_rate,
            cooldown=cooldown,
            seed=seed,
            init=init,
            cpu=device == "cpu",
            given=Choices(
                size=size,
                patch=patch,
                width=width,
                depth=depth,
                batch=batch,
                steps=steps,
                minutes=minutes,
                compiled=compiled,
                sample_every=sample_every,
                save_every=save_every,
            ),
            description=description,
            license=license,
            family=family,
            codec=codec,
            vocabulary=vocabulary,
            average=average,
            detail_width=detail_width,
            polish_channels=polish_channels,
            new_data=new_data,
            vectors=vectors,
        )
        try:
            columns = (f"{{task.fields[{name}]}}" for name in ("rate", "loss", "left"))
            with progress_bar(*columns, remaining=False) as bar:
                shown = _TrainingBar(bar, watch)
                folder = start_training(options, shown)
        except (DataError, TrainingError, ValueError) as error:
            raise UserError(str(error)) from error
        output.print(f"{folder}", highlight=False, markup=False, soft_wrap=True)
        if shown.signal is not None:
            raise typer.Exit(128 + shown.signal)
