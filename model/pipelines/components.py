"""What a folder with a ``model_index.json`` holds: components, their files, and whether they can be
loaded without running anything that lies in the folder. Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from model.checkpoint import PICKLES, CheckpointError
from model.pipelines.catalogue import Configs

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
INSTALL = "pip install 'tessera-serve[diffusers]'"
NEEDED = ("diffusers", "transformers", "accelerate", "greenlet")
"""What the extra brings and serving cannot do without."""

CONFIGS = (
    *("config.json", "scheduler_config.json", "guider_config.json", "tokenizer_config.json"),
    *("preprocessor_config.json", "processor_config.json"),
)
"""Where a component's configuration is: the first of these that it has."""

SMALL_FILES = (".json", ".txt", ".model", ".jinja")
"""What is read of a component beside its weights."""

_STEM = r"(?:model|diffusion_pytorch_model)"
_SHARD = re.compile(rf"{_STEM}(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors")
_INDEX = re.compile(rf"{_STEM}\.safetensors\.index(?:\.(\w+))?\.json")
_PREFERRED = ("", "bf16", "fp16")
_EMBEDDINGS = ("embed_tokens.weight", "token_embedding.weight", "shared.weight")
_PATCHES = re.compile(r"(pos_embed|patch_embed|x_embedder|img_in|conv_in)(\.proj)?\.weight")


@dataclass(frozen=True, slots=True)
class Component:
    """One of a pipeline's parts, in a folder of its name."""

    name: str
    library: str
    class_name: str
    config: Mapping[str, Any]
    variant: str  # of its weights, e.g. "fp16"; "" for those without one
    files: tuple[str, ...]  # all that is used of it, in order, as "name/file"


def check_installed() -> None:
    """Raises `CheckpointError` without the extra that serves pipelines."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise CheckpointError(f"pipelines of diffusers need {', '.join(missing)}: {INSTALL}")


def read_json(path: Path) -> dict[str, Any]:
    """An object. Raises `CheckpointError`."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: no JSON object")
    return found


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json``. Raises `CheckpointError` for one that needs code of its own."""
    path = folder / INDEX
    index = read_json(path)
    name = index.get("_class_name")
    if isinstance(name, list):
        raise CheckpointError(f"{path}: _class_name is {name}: code in the folder is never run")
    if not isinstance(name, str) or not name.isidentifier():
        raise CheckpointError(f"{path}: _class_name is {name!r}, not a pipeline's class")
    return index


def listed(index: Mapping[str, Any]) -> dict[str, tuple[str, str] | None]:
    """Library and class of each component of a ``model_index.json``; None for one that is left
    out."""
    found: dict[str, tuple[str, str] | None] = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or len(value) != 2:
            continue
        if value == [None, None]:
            found[name] = None
        elif isinstance(value[1], str):
            found[name] = str(value[0]), value[1]
    return found


def read_components(folder: Path, index: Mapping[str, Any]) -> dict[str, Component]:
    """Those that are there, by name. Raises `CheckpointError` for what cannot be loaded."""
    sources = {name: source for name, source in listed(index).items() if source is not None}
    for name in sources:
        if name in ("", ".", "..") or "/" in name or "\\" in name:
            raise CheckpointError(f"{folder / INDEX}: {name!r} is no component's name")
    variant = variant_of(_names(folder / name) for name in sources)
    return {name: _read(folder, name, *source, variant) for name, source in sources.items()}


def variant_of(parts: Iterable[Iterable[str]]) -> str:
    """Which variant of their weights components are read in, from the names of each one's files.

    "" wherever all have weights without one: others are the same, rounded. Otherwise one that all
    the rest have; components that do not have it are read without.
    """
    found = [{kind for name in names if (kind := kind_of(name)) is not None} for names in parts]
    lacking = [kinds for kinds in found if kinds and "" not in kinds]
    common = set.intersection(*lacking) if lacking else {""}
    return min(common, key=_preference) if common else ""


def kind_of(file: str) -> str | None:
    """The variant of a file of weights or of their index; None for other files."""
    found = _SHARD.fullmatch(file) or _INDEX.fullmatch(file)
    return None if found is None else found[1] or ""


def configs_of(index: Mapping[str, Any], components: Mapping[str, Component]) -> Configs:
    """All configurations, by component; "" is the index."""
    return {"": index, **{name: component.config for name, component in components.items()}}


def used_files(components: Mapping[str, Component]) -> list[str]:
    """All that decides pixels, by name."""
    return sorted([INDEX, *(name for one in components.values() for name in one.files)])


def _preference(variant: str) -> tuple[int, str]:
    last = len(_PREFERRED)
    return (_PREFERRED.index(variant) if variant in _PREFERRED else last), variant


def _names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir()) if path.is_dir() else []


def _read(folder: Path, name: str, library: str, class_name: str, variant: str) -> Component:
    where, path = folder / INDEX, folder / name
    if not _is_known(library):
        message = f"{name} is {library}.{class_name}: only diffusers and transformers are loaded"
        raise CheckpointError(f"{where}: {message}, no code of other modules or of the folder")
    if library == "diffusers" and not _exports(class_name):
        raise CheckpointError(f"{where}: {name} is {class_name}, which diffusers does not have")
    if not path.is_dir():
        raise CheckpointError(f"{path}: missing; {INDEX} lists it as {class_name}")
    if (code := path / f"{library}.py").exists():
        raise CheckpointError(f"{code}: code in the folder is never run")
    config_file = next((path / one for one in CONFIGS if (path / one).is_file()), None)
    config = read_json(config_file) if config_file is not None else {}
    if config_file is not None and "auto_map" in config and class_name.startswith("Auto"):
        raise CheckpointError(f"{config_file}: auto_map names code in the folder; it is never run")
    names = _names(path)
    variant = variant if variant in map(kind_of, names) else ""
    if kind := _without_weights(class_name):
        weights: tuple[str, ...] = ()
        if not any((path / one).is_file() for one in kind):
            raise CheckpointError(f"{path / kind[0]}: missing; {name} is a {class_name}")
    else:
        if config_file is None or config_file.name != "config.json":
            raise CheckpointError(f"{path / 'config.json'}: missing; {name} is a {class_name}")
        weights = _weights(path, library, variant)
        _check_weights(path, weights, config)
    small = [file for file in names if file.endswith(SMALL_FILES) and kind_of(file) is None]
    files = tuple(f"{name}/{file}" for file in sorted({*small, *weights}))
    return Component(name, library, class_name, config, variant, files)


def _is_known(library: str) -> bool:
    """Also modules of ``diffusers.pipelines``, which an index may name alone."""
    if library in LIBRARIES:
        return True
    root = diffusers_root()
    return library.isidentifier() and root is not None and (root / "pipelines" / library).is_dir()


def diffusers_root() -> Path | None:
    """Where it is installed; looking does not import it."""
    found = find_spec("diffusers")
    return Path(found.origin).parent if found and found.origin else None


@lru_cache(1)
def _exported() -> frozenset[str]:
    root = diffusers_root()
    if root is None:
        return frozenset()
    source = (root / "__init__.py").read_text(encoding="utf-8")
    return frozenset(re.findall(r'"(\w+)"', source))


def _exports(class_name: str) -> bool:
    """Whether diffusers has it: the file that it starts with lists all names."""
    return class_name in _exported() or not _exported()


def has_pipeline(class_name: str) -> bool:
    """Whether diffusers has a pipeline of this name."""
    return class_name in _exported()


def _without_weights(class_name: str) -> tuple[str, ...]:
    """The files of which such a component has one; () for one with weights."""
    if class_name.endswith("Scheduler"):
        return ("scheduler_config.json",)
    if class_name.endswith("Guidance"):
        return ("guider_config.json",)
    if "Tokenizer" in class_name:
        vocabularies = ("vocab.json", "spiece.model", "tokenizer.model", "tokenizer_config.json")
        return ("tokenizer.json", *vocabularies)
    if class_name.endswith(("Processor", "FeatureExtractor", "ProcessorFast")):
        return ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
    return ()


def _weights(path: Path, library: str, variant: str) -> tuple[str, ...]:
    """The names of the files, the index among them. Raises `CheckpointError`."""
    of = f".{variant}" if variant else ""
    stems = {"transformers": ("model",), "diffusers": ("diffusion_pytorch_model",)}
    for stem in stems.get(library, ("model", "diffusion_pytorch_model")):
        single, index = f"{stem}{of}.safetensors", f"{stem}.safetensors.index{of}.json"
        if stem == "model" and (path / single).is_file():  # each library has its own order
            return (single,)
        if (path / index).is_file():
            return (index, *_shards(path / index))
        if (path / single).is_file():
            return (single,)
    pickles = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{path / pickles[0]}: pickled weights are never opened, as they can run code; "
            f"save them as {single}"
        )
    others = sorted(file.name for file in path.glob("*.safetensors"))
    instead = f"; {', '.join(others[:3])} is not what the library reads" if others else ""
    raise CheckpointError(f"{path / single}: missing{instead}")


def _shards(index: Path) -> list[str]:
    weights = read_json(index).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise CheckpointError(f"{index}: has no weight_map")
    names = sorted({str(name) for name in weights.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index}: {name!r} is no safetensors file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent / name}: missing; {index.name} lists it")
    return names


def _check_weights(path: Path, weights: Iterable[str], config: Mapping[str, Any]) -> None:
    """Whether headers can be read, and the first layers have the configuration's sizes.

    The rest of the shapes is found out by loading.
    """
    for name in weights:
        if not name.endswith(".safetensors"):
            continue
        try:
            with safe_open(path / name, framework="numpy") as file:
                if "quantization_config" not in config:  # packed: no shape is as configured
                    for key in file.keys():  # noqa: SIM118 - it is no mapping
                        if wrong := _wrong_shape(key, file, config):
                            raise CheckpointError(f"{path / name}: {wrong}")
        except (SafetensorError, OSError) as error:
            message = f"not in safetensors format: {error}"
            raise CheckpointError(f"{path / name}: {message}") from error


def _wrong_shape(key: str, file: Any, config: Mapping[str, Any]) -> str:
    """What is wrong with the shape of a first layer, if anything is."""
    if not (_PATCHES.fullmatch(key) or key.endswith(_EMBEDDINGS)):
        return ""
    shape = list(file.get_slice(key).get_shape())
    if _PATCHES.fullmatch(key):
        channels = config.get("in_channels")
        if isinstance(channels, int) and (len(shape) < 2 or shape[1] % channels):
            return f"{key} is {shape}, config.json has in_channels {channels}"
    elif (widths := {*_widths(config)}) and shape[-1:] not in [[width] for width in widths]:
        return f"{key} is {shape}, config.json has a width of {' or '.join(map(str, widths))}"
    return ""


def _widths(config: Mapping[str, Any]) -> Iterable[int]:
    """Of hidden layers, of all encoders that a configuration nests."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _widths(value)
        elif name in ("hidden_size", "d_model", "embed_dim") and isinstance(value, int):
            yield value
