"""``tessera models``: what can be served, and what each model takes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from app.cli.console import one_line_errors, output, say
from app.cli.options import AsJson, choose_model
from model.checkpoint import CONFIG, TRAINED, Checkpoint, CheckpointError
from model.pipelines.checkpoint import PipelineCheckpoint, in_catalogue
from model.pipelines.components import listed
from model.pipelines.download import size_text
from model.pipelines.hub import cached_pipelines
from model.registry import open_checkpoint, shipped
from model.spec import Parameter


def models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Folders, shipped names or hf:owner/name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that can be served: those that ship, those of runs/, those in the Hub's
    cache, and those named. One that is named alone is explained.
    """
    with one_line_errors():
        chosen = [(name, choose_model(name)) for name in names or ()]
        if as_json:
            listed = chosen if len(chosen) == 1 else (*_shipped(), *_own([]), *_cached([]), *chosen)
            say(json.dumps([_facts(name, one) for name, one in listed], ensure_ascii=False))
            return
        if len(chosen) == 1:
            _explain(*chosen[0])
            return
        table = Table("model", "family", "weights", "native size", "operations", "license")
        table.add_column("name", overflow="fold")
        others: list[str] = []
        for name, checkpoint in (*_shipped(), *_own(others), *_cached(others), *chosen):
            spec = checkpoint.spec
            table.add_row(
                spec.id,
                spec.family,
                size_text(checkpoint.bytes),
                "{}x{}".format(*spec.sizes.native),
                ", ".join(spec.operations),
                escape(spec.license),
                escape(name),
            )
        output.print(table)
        for line in others:
            output.print(line, highlight=False, markup=False, soft_wrap=True)


def _facts(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    spec = checkpoint.spec
    return {
        "name": name,
        "model": spec.id,
        "family": spec.family,
        "description": spec.description,
        "license": spec.license,
        "digest": spec.digest,
        "bytes": checkpoint.bytes,
        "native_size": spec.sizes.native,
        "operations": spec.operations,
        "adapters": spec.loras,
        "styles": [style.name for style in spec.styles],
        "parameters": [
            {
                "name": parameter.name,
                "minimum": parameter.minimum,
                "maximum": parameter.maximum,
                "default": parameter.default,
                "defaults": parameter.defaults,
                "operations": parameter.operations,
                "description": parameter.description,
            }
            for parameter in spec.own_parameters
        ],
    }


def _shipped() -> Iterator[tuple[str, Checkpoint]]:
    for folder in shipped():
        yield folder.name, open_checkpoint(folder)


def _own(others: list[str]) -> Iterator[tuple[str, Checkpoint]]:
    """Those of training runs in this directory. ``others`` gets a line for each broken one."""
    for config in sorted(Path("runs").glob(f"*/{TRAINED}/{CONFIG}")):
        run = config.parent.parent
        try:
            yield str(run), open_checkpoint(run)
        except CheckpointError as error:
            others.append(str(error))


def _cached(others: list[str]) -> Iterator[tuple[str, Checkpoint]]:
    """Those of the Hub's cache. ``others`` gets a line for each that is not in the catalogue, as it
    would have to be imported to be known, and for each that is broken.
    """
    for name, folder in cached_pipelines():
        try:
            if in_catalogue(folder):
                yield str(name), open_checkpoint(folder)
            else:
                others.append(f"{name}: not in the catalogue; try: tessera models {name}")
        except CheckpointError as error:
            others.append(f"{name}: {error}")


def _explain(name: str, checkpoint: Checkpoint) -> None:
    spec = checkpoint.spec
    facts = Table.grid(padding=(0, 2))
    rows = {
        "model": spec.id,
        "served by": f"tessera serve {shlex.quote(name)}",
        "family": spec.family,
        **_of_pipeline(checkpoint),
        "description": spec.description,
        "license": spec.license,
        "weights": size_text(checkpoint.bytes),
        "sizes": str(spec.sizes),
        "operations": ", ".join(spec.operations),
        "prompt": _prompt(checkpoint),
        "adapters": ", ".join(spec.loras),
        "styles": ", ".join(style.name for style in spec.styles),
        "digest": spec.digest[:12],
    }
    for label, value in rows.items():
        if value:
            facts.add_row(label, escape(value))
    output.print(facts, highlight=False)
    table = Table("parameter", "accepted", "default", "for", "what it does")
    for parameter in spec.own_parameters:
        table.add_row(
            parameter.name,
            _accepted(parameter),
            parameter.default_text,
            ", ".join(parameter.operations),
            escape(parameter.description),
        )
    output.print(table)


def _of_pipeline(checkpoint: Checkpoint) -> dict[str, str]:
    if not isinstance(checkpoint, PipelineCheckpoint):
        return {}
    parts = listed(checkpoint.configs[""])
    known = "" if in_catalogue(checkpoint.folder) else ", by inspection of its class"
    return {
        "pipeline": f"{checkpoint.entry.pipeline} ({checkpoint.entry.title}{known})",
        "components": ", ".join(f"{part} {source[1]}" for part, source in parts.items() if source),
    }


def _prompt(checkpoint: Checkpoint) -> str:
    spec = checkpoint.spec
    negative = ", and a negative one" if spec.negative_prompt else ""
    if isinstance(checkpoint, PipelineCheckpoint) and checkpoint.entry.text is None:
        classes = len(checkpoint.id2label)
        return f"the name of one of {classes} classes, such as {', '.join(spec.examples)}"
    return f"at most {spec.max_prompt_tokens} tokens{negative}"


def _accepted(parameter: Parameter) -> str:
    low, high = f"{parameter.minimum:g}", f"{parameter.maximum:g}"
    return f"always {low}" if low == high else f"{low} to {high}"
