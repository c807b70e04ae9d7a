"""A pipeline class without an entry, described by what it takes; or why it cannot be served.

``python -m model.pipelines.inspection FOLDER`` prints the entry as JSON: a process of its own, as
the class has to be imported, and torch with it. A class is looked up in diffusers, then among the
entry points ``tessera.pipelines`` of installed packages (name: the class's, value: module:class);
nothing that lies in the folder is run. This module imports no torch by itself.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter

from model.checkpoint import CheckpointError
from model.pipelines.catalogue import (
    CATALOGUE,
    GUIDANCE,
    STEPS,
    TRUE,
    Area,
    Configs,
    Entry,
    Text,
    guidance,
    steps,
    true_guidance,
)
from model.pipelines.components import (
    INDEX,
    configs_of,
    has_pipeline,
    listed,
    read_components,
    read_index,
)
from model.pipelines.sizes import scale_of
from model.spec import Parameter

GROUP = "tessera.pipelines"
PATIENCE = 600.0
"""Seconds for the imports; they compute nothing."""

NATIVE = 1024
"""Pixels along the side of an image, where nothing says otherwise."""

TOKENS = 512
"""Of a prompt, at most, where the call does not say."""

_VIDEO = ("num_frames", "video", "video_length", "frames", "num_frames_per_clip")
_SOUND = ("audio_length_in_s", "audio_end_in_s", "audio_duration")
_EDITS = re.compile("Img2Img|Inpaint|Edit|Fill|ControlNet|Upscale|Redux|Depth")
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


def inspected(folder: Path) -> Entry:
    """The entry for a folder whose class has none. Raises `CheckpointError`."""
    name = read_index(folder)["_class_name"]
    if not has_pipeline(name) and registered(name) is None:
        raise CheckpointError(
            f"{folder / INDEX}: {name} is no pipeline of diffusers, and no installed package "
            f"registers it by an entry point of {GROUP}"
        )
    if "torch" in sys.modules:  # in a worker
        return _inspect(folder)
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, str(folder)],  # not from where it is called
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CheckpointError(f"{folder / INDEX}: {name} cannot be looked at: {error}") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise CheckpointError(reason[-1] if done.returncode == 1 else f"{folder}: {reason[-1]}")
    return _ENTRY.validate_json(done.stdout.splitlines()[-1])


def registered(name: str) -> EntryPoint | None:
    """The entry point of a pipeline class from elsewhere."""
    found = entry_points(group=GROUP, name=name)
    return next(iter(found), None)


def pipeline_class(name: str) -> type[Any]:
    """The class of a ``_class_name``. Imports torch. Raises `CheckpointError`."""
    import diffusers

    if (found := getattr(diffusers, name, None)) is not None:
        return found
    entry = registered(name)
    if entry is None:
        raise CheckpointError(f"{name} is neither in diffusers nor registered for {GROUP}")
    try:
        found = entry.load()
    except Exception as error:  # whatever the package raises
        raise CheckpointError(f"{name} ({entry.value}) cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise CheckpointError(f"{name} ({entry.value}) is no DiffusionPipeline")
    return found


def inspect_class(cls: type[Any], configs: Configs) -> Entry:
    """The entry of a class by the signature of its call.

    Raises `CheckpointError` for one that cannot be served, and says what it lacks.
    """
    name = cls.__name__
    takes = dict(inspect.signature(cls.__call__).parameters)
    takes.pop("self", None)

    def refuse(why: str) -> NoReturn:
        raise CheckpointError(f"{name} cannot be served: {why}")

    if any(one in takes for one in _VIDEO):
        refuse("it draws videos")
    if any(one in takes for one in _SOUND):
        refuse("it makes sound")
    parts = {key for key, source in listed(configs[""]).items() if source is not None}
    network = next((one for one in ("transformer", "unet") if one in parts), None)
    if network is None:
        refuse("it has no transformer or unet")
    for part in ("vae", "scheduler"):
        if part not in parts:
            refuse(f"it has no {part}")
    if "prompt" not in takes and "class_labels" not in takes:
        refuse("it takes no prompt and no class_labels")
    known = ("prompt", "class_labels")
    for one in takes.values():
        plain = one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        if one.default is one.empty and plain and one.name not in known:
            refuse(f"it needs {one.name}")
    if "image" in takes and (_EDITS.search(name) or next(iter(takes)) == "image"):
        refuse("it starts from an image")
    for argument in (STEPS, "generator", "output_type"):
        if argument not in takes:
            refuse(f"it takes no {argument}")
    text = _text(takes, parts, configs) if "prompt" in takes else None
    if "prompt" in takes and text is None:
        refuse("it has no tokenizer")
    if text is None and not isinstance(configs[""].get("id2label"), dict):
        refuse(f"its {INDEX} has no id2label")
    parameters = _parameters(takes)
    embedded = bool(configs.get(network, {}).get("guidance_embeds"))
    doubling = [one for one in ("true_guidance", "guidance") if one in parameters]
    if embedded and "guidance" in doubling:
        doubling.remove("guidance")
    options = {"use_resolution_binning": False} if "use_resolution_binning" in takes else {}
    forward = configs.get(network, {})
    return Entry(
        title=" ".join(re.findall(r"[A-Z]?[^A-Z]+|[A-Z]+(?![a-z])", name.removesuffix("Pipeline"))),
        pipeline=name,
        area=_area(cls, takes, network, configs),
        text=text,
        parameters=tuple(parameters.values()),
        arguments={one: _ARGUMENTS[one] for one in parameters},
        network=network,
        batched=doubling[0] if doubling else None,  # two at the most, whether in one call or not
        negative_prompt="negative_prompt" in takes,
        options=options,
        shared=_shared(str(forward.get("_class_name", ""))),
    )


_ARGUMENTS = {"steps": STEPS, "guidance": GUIDANCE, "true_guidance": TRUE}


def _parameters(takes: Mapping[str, inspect.Parameter]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    count = takes[STEPS].default
    count = count if isinstance(count, int) and count > 0 else 30
    found["steps"] = steps(count, max(100, count))
    for name, make in (("guidance", guidance), ("true_guidance", true_guidance)):
        argument = takes.get(_ARGUMENTS[name])
        if argument is None or not isinstance(argument.default, int | float):
            continue
        default, highest = float(argument.default), max(20.0, 2 * float(argument.default))
        if name == "guidance":
            found[name] = guidance(default, highest, min(1.0, default))
        else:
            found[name] = make(max(1.0, default), highest)
    return found


def _text(takes: Mapping[str, inspect.Parameter], parts: set[str], configs: Configs) -> Text | None:
    """The tokenizer that limits a prompt: the one that is read furthest."""
    tokenizers = sorted(part for part in parts if part.startswith("tokenizer"))
    if not tokenizers:
        return None
    longest = takes.get("max_sequence_length")
    if longest is not None and isinstance(longest.default, int):
        return Text(tokenizers[-1], longest.default)
    limits = {part: configs.get(part, {}).get("model_max_length", TOKENS) for part in tokenizers}
    furthest = max(limits, key=lambda part: limits[part])
    return Text(furthest, min(int(limits[furthest]), TOKENS))


def _area(
    cls: type[Any], takes: Mapping[str, inspect.Parameter], network: str, configs: Configs
) -> Area:
    """By the network's configuration, the call's default, or what the class sets up."""
    config, scale = configs.get(network, {}), scale_of(configs.get("vae", {}))
    side: int | str
    height = takes["height"].default if "height" in takes else None
    size = config.get("sample_size")
    if isinstance(size, int) or (isinstance(size, list) and len(size) == 2):
        side = f"{network}.sample_size"
    elif isinstance(height, int):
        side = height // scale
    elif (set_up := _default_side(cls)) is not None:
        side = set_up
    else:
        side = max(1, NATIVE // scale)
    if network == "unet":  # halved at each block but the last
        patch = 2 ** max(0, len(config.get("block_out_channels", [0] * 4)) - 1)
    else:
        found = config.get("patch_size", 2)
        found = found[-1] if isinstance(found, list) else found
        patch = max(2, found) if isinstance(found, int) else 2
    return Area(side=side, patch=patch, fixed="height" not in takes or "width" not in takes)


def _default_side(cls: type[Any]) -> int | None:
    try:
        source = inspect.getsource(cls.__init__)
    except (OSError, TypeError):
        return None
    found = re.search(r"default_sample_size\s*=\s*(\d+)\s*$", source, re.MULTILINE)
    return int(found[1]) if found else None


def _shared(class_name: str) -> frozenset[str]:
    """The arguments that no entry takes for rows, as far as the network has them."""
    import diffusers

    network = getattr(diffusers, class_name, None)
    if network is None:
        return frozenset()
    takes = inspect.signature(network.forward).parameters
    return frozenset(name for entry in CATALOGUE for name in entry.shared if name in takes)


def _inspect(folder: Path) -> Entry:
    index = read_index(folder)
    configs = configs_of(index, read_components(folder, index))
    try:
        return inspect_class(pipeline_class(index["_class_name"]), configs)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / INDEX}: {error}") from error


def main() -> None:
    folder = Path(sys.argv[1])
    try:
        entry = _inspect(folder)
    except CheckpointError as error:
        sys.exit(str(error))  # status 1, the reason on the error stream
    sys.stdout.write("\n" + _ENTRY.dump_json(entry).decode() + "\n")


if __name__ == "__main__":
    main()
