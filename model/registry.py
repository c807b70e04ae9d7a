"""The families of image transformer, each found by its name when it is needed. Imports no torch.

A ``config.json`` says which family a folder is of. The table below has the families of this tree;
a package from elsewhere registers its own `Checkpoint` by an entry point of the group
``tessera.families``, whose name is the family's (see docs/adding-a-family.md). A folder with a
``model_index.json`` is a pipeline of diffusers. A name such as ``hf:owner/name@revision`` is a
folder in the Hub's cache.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from model.checkpoint import CONFIG, TRAINED, Checkpoint, CheckpointError
from model.pipelines.download import locate
from model.pipelines.hub import as_hub_name, is_hub_name

SHIPPED = Path(__file__).parent / "checkpoints"
"""Where the trained models that ship lie, one folder each."""

PIPELINE = "model_index.json"
"""What a pipeline of diffusers has."""

GROUP = "tessera.families"

FAMILIES = {
    "flow": "model.flow.config:FlowCheckpoint",
    "gpt": "model.gpt.config:GptCheckpoint",
    "gan": "model.gan.config:GanCheckpoint",
}
"""Each family's `Checkpoint`. The first one is the default family."""

CODEC = "codec"

RECIPES = {
    "flow": "model.flow.training:FlowRecipe",
    CODEC: "model.gpt.codec_training:CodecRecipe",
    "gpt": "model.gpt.training:GptRecipe",
    "gan": "model.gan.training:GanRecipe",
}
"""What ``tessera train`` can train: each one's `model.training.recipe.Recipe`."""


def find_folder(model: Path) -> Path:
    """Where a model lies. Raises `CheckpointError`.

    ``model`` is a folder, that of a training run, the name of a shipped one, or
    ``hf:owner/name[@revision]``, which is downloaded where the cache does not have it.
    """
    folder = locate(model) if is_hub_name(str(model)) else model
    if not folder.is_dir() and (SHIPPED / folder).is_dir():
        folder = SHIPPED / folder
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder{_meant(folder)}")
    if not (folder / CONFIG).is_file() and (folder / TRAINED / CONFIG).is_file():
        folder = folder / TRAINED
    return folder


def _meant(folder: Path) -> str:
    """What else may have been meant by a folder that is not there."""
    if len(folder.parts) == 1:
        return f", and no model that ships ({', '.join(path.name for path in shipped())})"
    on_hub = as_hub_name(str(folder))
    return f"; if a model of the Hub is meant, it is {on_hub}" if on_hub else ""


NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.+)", re.DOTALL)


def open_checkpoint(model: Path) -> Checkpoint:
    """Looks at a model, see `find_folder`, without its weights. Raises `CheckpointError`.

    ``name=model`` gives it that name.
    """
    if (given := NAMED.fullmatch(str(model))) and not model.exists():
        return open_checkpoint(Path(given[2])).named(given[1])
    folder = find_folder(model)
    if (folder / PIPELINE).is_file():
        from model.pipelines.checkpoint import PipelineCheckpoint

        return PipelineCheckpoint.open(folder)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: has neither {CONFIG} nor {PIPELINE}")
    return _family(folder / CONFIG).open(folder)


def shipped() -> list[Path]:
    """The checkpoint folders in the tree, by family (they are called NAME-FAMILY), flow first.

    The first one is the default model.
    """
    order = {family: position for position, family in enumerate(FAMILIES)}
    folders = [path.parent for path in SHIPPED.glob(f"*/{CONFIG}")]
    families = {folder: folder.name.rpartition("-")[2] for folder in folders}
    return sorted(
        folders, key=lambda folder: (order.get(families[folder], len(order)), folder.name)
    )


def _family(config: Path) -> type[Checkpoint]:
    """The class for a ``config.json``. Raises `CheckpointError`."""
    try:
        name = json.loads(config.read_bytes())["family"]
    except OSError as error:
        raise CheckpointError(f"{config}: missing; every checkpoint has it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{config}: no JSON object with a family") from error
    if name == CODEC:
        raise CheckpointError(f"{config}: is a codec, for tessera train --codec; it draws nothing")
    if name in FAMILIES:
        entry = EntryPoint(name, FAMILIES[name], GROUP)
    else:
        others = entry_points(group=GROUP)
        if name not in others.names:
            known = ", ".join([*FAMILIES, *sorted(others.names)])
            raise CheckpointError(f"{config}: family is {name!r}, there are {known}")
        entry = others[name]
    try:
        found: type[Checkpoint] = entry.load()
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{config}: family {name} ({entry.value}): {error}") from error
    return found
