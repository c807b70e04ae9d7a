"""What several commands share: the model that is meant, its parameters as options, its device."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from typer.core import TyperCommand

from app.cli.console import UserError, one_line_errors, option_name, problems
from app.generation.editing.fit import Size
from app.generation.output import Detail
from app.generation.resolve import Limits, parse_size, quoted
from model.checkpoint import Checkpoint, CheckpointError
from model.image_files.decode import ImageFileError
from model.pipelines.download import Plan, Report, locate, size_text
from model.pipelines.hub import HubName, find_cached, is_hub_name
from model.pipelines.settings import PipelineSettings
from model.protocol import ImageModel
from model.registry import SHIPPED, open_checkpoint, shipped
from model.request import SEEDS, InvalidField, Operation
from model.spec import ModelSpec, Parameter

LIMITS = Limits(
    max_walk=1000,
    max_prompt_characters=1_000_000,
    max_size=8192,
    max_upload_pixels=100_000_000,  # 1.2 GB of memory
)
"""For a command, which serves nobody else."""

Chosen = Annotated[
    str | None, typer.Option(help="A shipped model's name, a folder, or hf:owner/name.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda:0 …")]
Precision = Annotated[Literal["auto", "fp32", "bf16"], typer.Option(help="Precision.")]
Seed = Annotated[int, typer.Option(min=0, max=SEEDS - 1, help="Of the first; the others follow.")]
Count = Annotated[int, typer.Option("-n", min=1, help="How many images.")]
Folder = Annotated[Path, typer.Option("-o", "--out", help="Folder for the images.")]
NegativePrompt = Annotated[str, typer.Option(help="What it should not show, where models take it.")]
Lora = Annotated[str, typer.Option(help="The name of an adapter, where the model has any.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over files that are there.")]
Says = Annotated[
    Detail,
    typer.Option(
        "--metadata", help="What files say of themselves: prompt and seed, or the source only."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON, and nothing else.")]
Background = Annotated[
    str | None, typer.Option(help='"white", "transparent" or a colour such as #ff8800.')
]


def choose_model(name: str | None, *, download: bool = True) -> Checkpoint:
    """By folder, by the name of a shipped one or of one of the Hub, or the default.

    One of the Hub that is not in its cache is downloaded under a progress bar, or refused. Raises
    `UserError` and `CheckpointError`.
    """
    if name is None:
        folders = shipped()
        if not folders:
            raise UserError(f"no checkpoint in {SHIPPED}; give one with --model FOLDER")
        return open_checkpoint(folders[0])
    if is_hub_name(name):
        if not download and find_cached(HubName.parse(name)) is None:
            raise UserError(f"{name} is not here yet; get it with: tessera pull {name}")
        folder = locate(Path(name), download_progress)
    else:
        folder = SHIPPED / name if (SHIPPED / name).is_dir() else Path(name)
    return open_checkpoint(folder).with_loras(pipeline_settings().loras)


def pipeline_settings() -> PipelineSettings:
    """How pipelines are loaded, as it is set for the service. Raises `UserError`."""
    from pydantic import ValidationError
    from pydantic_settings import BaseSettings, SettingsConfigDict

    from app.settings import PREFIX, Settings

    class FromEnvironment(PipelineSettings, BaseSettings):
        model_config = SettingsConfigDict(**Settings.model_config)

    try:
        return FromEnvironment()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{PREFIX}{'.'.join(map(str, first['loc']))}".upper()
        raise UserError(f"{name}: {first['msg']}") from error


@contextlib.contextmanager
def download_progress(plan: Plan) -> Iterator[Report]:
    """A bar on the error stream, after a line that says what comes and whether there is room."""
    problems.print(download_summary(plan), highlight=False, markup=False, soft_wrap=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=problems) as bar:
        whole = sum(file.size for file in plan.files if file.whole)  # parts are reported
        task = bar.add_task("downloading", total=plan.size, completed=whole)
        yield lambda count: bar.advance(task, count)
        bar.update(task, completed=plan.size)


def download_summary(plan: Plan) -> str:
    """What is downloaded, in a line."""
    here = f", of which {size_text(plan.here)} are here" if plan.here else ""
    size = f"{len(plan.files)} files, {size_text(plan.size)}{here}"
    return f"{plan.name}: {size}; {size_text(plan.free)} free in {plan.cache}"


def load_chosen(
    checkpoint: Checkpoint,
    device: str,
    dtype: Precision,
    tile: int | None = None,
    *,
    threads: int | None = None,
) -> ImageModel[Any]:
    """The model on its device, in deterministic arithmetic.

    Raises `UserError` for a device that is not there, and `CheckpointError`.
    """
    check_device(device)
    from model.loading import is_shortage, load_model
    from model.runtime.numerics import configure_determinism

    configure_determinism(device, threads)
    settings = pipeline_settings()
    try:
        return load_model(checkpoint, device=device, dtype=dtype, tile=tile, pipelines=settings)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise UserError(f"{checkpoint.folder}: too little memory on {device}: {error}") from error


def check_device(device: str) -> None:
    """Raises `UserError` for one that is not there."""
    import torch

    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if device not in devices:
        raise UserError(f"--device {device} was given, there is {', '.join(devices)}")


def make_folder(folder: Path) -> None:
    """Raises `UserError` where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"--out {folder}: cannot be written to")


def check_out(folder: Path, files: Sequence[Path] = (), *, overwrite: bool = True) -> None:
    """Before the work: raises `UserError` where it would end in nothing, or in a file's loss."""
    try:
        place = folder
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise UserError(f"--out {folder}: {place} is a file")
        if not os.access(place, os.W_OK | os.X_OK):
            raise UserError(f"--out {folder}: cannot be written to")
        there = [file for file in files if file.exists()]
    except OSError as error:
        raise UserError(f"--out {folder}: {error.strerror}") from error
    for file in there:
        if not file.is_file():
            raise UserError(f"{file} is there, and is no file")
    if there and not overwrite:
        more = f" and {len(there) - 1} more are" if len(there) > 1 else " is"
        raise UserError(f"{there[0]}{more} there already; --overwrite, or another --out, is needed")


def write_file(path: Path, content: bytes) -> None:
    """Raises `UserError`."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def read_file(path: Path) -> bytes:
    """Raises `UserError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def to_size(text: str | None) -> int | Size | None:
    """What ``--size`` says. Raises `InvalidField`."""
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise InvalidField("size", f"{quoted(text)} was given, {error}") from error


def number_text(value: float | None) -> str:
    """For people; empty for none."""
    return "" if value is None else f"{value:g}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a `ModelCommand` was given."""

    checkpoint: Checkpoint
    parameters: Mapping[str, float]  # those that were given, by name


class ModelCommand(TyperCommand):
    """A command with ``--model``, and an option for each parameter of that model.

    These come from the checkpoint's table: no parameter is named in this package. The command's
    function finds `Asked` as ``ctx.obj``. An `InvalidField` ends it in one line.
    """

    def defaults(self, parameter: Parameter, spec: ModelSpec) -> dict[str, str]:
        """Its default for each operation of this command that takes it, empty where the model
        decides; no entry where none does."""
        operations: tuple[Operation, ...] = ("generate", "walk")
        return {
            operation: number_text(parameter.default_for(operation))
            for operation in operations
            if operation in parameter.operations
        }

    def subject(self, ctx: typer.Context, error: InvalidField) -> str:
        """What the error's message is about: a file, an argument or an option."""
        if isinstance(error, ImageFileError):
            return str(ctx.params[error.field])
        arguments = {param.name for param in self.params if param.param_type_name == "argument"}
        return error.field.upper() if error.field in arguments else option_name(error)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Finds ``--model`` first, as the other options depend on it."""
        model = inspect.Parameter(
            "model", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Chosen
        )
        options = ctx.meta[_OPTIONS] = _options([model])
        parser = self.make_parser(ctx)
        parser.ignore_unknown_options = True  # they may be the model's
        given, _, _ = parser.parse_args(args=[*args])
        helping = bool({*args} & {*ctx.help_option_names})
        with one_line_errors():
            try:
                checkpoint = choose_model(given.get("model"), download=not helping)
            except (UserError, CheckpointError):
                if not helping:
                    raise
            else:
                ctx.meta[_CHECKPOINT] = checkpoint
                options += _options(self._parameters(checkpoint.spec))
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """The model's, then the function's own."""
        return [*ctx.meta.get(_OPTIONS, ()), *super().get_params(ctx)]

    def invoke(self, ctx: Any) -> Any:
        """Calls the function."""
        values = {option.name: ctx.params.pop(option.name) for option in ctx.meta[_OPTIONS]}
        del values["model"]
        given = {name: value for name, value in values.items() if value is not None}
        ctx.obj = Asked(ctx.meta[_CHECKPOINT], given)
        with one_line_errors(lambda error: self.subject(ctx, error)):
            return super().invoke(ctx)

    def _parameters(self, spec: ModelSpec) -> list[inspect.Parameter]:
        """As a function's signature would have them."""
        found = [(parameter, self.defaults(parameter, spec)) for parameter in spec.parameters]
        operations = {operation for _, defaults in found for operation in defaults}
        return [
            inspect.Parameter(
                parameter.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    int | None if parameter.whole else float | None,
                    typer.Option(
                        help=_help(parameter, defaults, operations),
                        rich_help_panel=f"Parameters of {spec.id}",
                    ),
                ],
            )
            for parameter, defaults in found
            if defaults
        ]


_OPTIONS, _CHECKPOINT = f"{__name__}.options", f"{__name__}.checkpoint"  # in a context's meta


def _help(parameter: Parameter, defaults: Mapping[str, str], operations: Collection[str]) -> str:
    """What it is, its range, and its defaults; ``operations`` are those of the command."""
    if parameter.minimum == parameter.maximum:
        return f"{parameter.description} Always {parameter.minimum:g}."
    by_default: dict[str, list[str]] = {}
    for operation, default in defaults.items():
        by_default.setdefault(default, []).append(operation)
    notes = []
    for default, names in by_default.items():
        note = f"{default} by default" if default else ""
        if len(names) < len(operations):
            note += f" for {', '.join(names)}"
        notes.append(note.strip())
    listed = "; ".join(filter(None, notes))
    accepted = f"{parameter.minimum:g} to {parameter.maximum:g}"
    return f"{parameter.description} {accepted}{listed and f' ({listed})'}."


def _options(parameters: list[inspect.Parameter]) -> list[Any]:
    """What Typer makes of a function with these parameters."""

    def function() -> None: ...

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(function)
    command: Any = typer.main.get_command(app)
    return [*command.params]
