"""A folder that diffusers can load, looked at and not loaded. Imports no torch.

Whatever can be wrong with it is found here, with the file and the reason, but for the shapes inside
the networks: these are found by loading. Nothing that lies in a folder is run, and nothing pickled
is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from model.checkpoint import Checkpoint, CheckpointError, Placement, digest_of, name_of
from model.pipelines import labels, loras
from model.pipelines.catalogue import Configs, Entry, Text, find
from model.pipelines.components import (
    INDEX,
    Component,
    check_installed,
    configs_of,
    listed,
    read_components,
    read_index,
    used_files,
)
from model.pipelines.hashing import sha256
from model.pipelines.inspection import inspected
from model.pipelines.settings import PACKAGES, PipelineSettings
from model.pipelines.sizes import scale_of, sizes_of
from model.pipelines.tokens import TokenCounter
from model.request import ImageRequest, InvalidField
from model.spec import ModelSpec

if TYPE_CHECKING:
    from model.pipelines.sampler import PipelineModel

FAMILY = "diffusers"
CARD = "README.md"

ATTENTION = "native"
"""The attention kernels: torch's own. Others differ in bits, and from machine to machine."""

MAY_LACK = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}
"""Components that hold a text, and that a pipeline can do without, together."""

WITHOUT_THEM = Text("tokenizer", 77)
"""What limits prompts then."""


class PipelineCheckpoint(Checkpoint):
    """See `model.checkpoint.Checkpoint`.

    Attributes:
        configs: what the folder says of the pipeline and its components.
        entry: what is known of its class.
        loras: the adapters that requests may name.
        scale: pixels along a side for each latent pixel.
        components: the folder's, with their files.
    """

    tiles: ClassVar[Mapping[str, int]] = {"cpu": 4, "cuda": 4}

    def __init__(
        self,
        folder: Path,
        spec: ModelSpec,
        configs: Configs,
        entry: Entry,
        *,
        scale: int,
        components: Mapping[str, Component],
        count: TokenCounter | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        """``count`` is None where prompts name classes."""
        super().__init__(folder, spec)
        self.configs = configs
        self.entry = entry
        self.scale = scale
        self.components = components
        files = filter(_is_weights, used_files(components))
        self._weights = sum((folder / file).stat().st_size for file in files)
        self.loras: Mapping[str, Path] = adapters or {}
        self._counter = count
        self._count = lru_cache(1024)(count) if count is not None else None
        self._class_of = lru_cache(1024)(lambda text: labels.class_of(text, self.id2label))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """See `Checkpoint.open`."""
        check_installed()
        folder = folder.resolve()
        name = name_of(folder)
        index = read_index(folder)
        components = read_components(folder, index)
        configs = configs_of(index, components)
        entry = find(configs, name) or inspected(folder)
        lacking = {part for part, source in listed(index).items() if source is None}
        if {*MAY_LACK.get(entry.pipeline, ("never",))} <= lacking:
            entry = replace(entry, text=WITHOUT_THEM)
        _check_complete(folder, index, entry)
        try:
            scale = scale_of(configs["vae"])
            sizes = sizes_of(entry.area, configs, scale)
        except CheckpointError as error:
            raise CheckpointError(f"{folder}: {error}") from error
        if entry.text is None:
            id2label = _labels(folder, index)
            count, most, examples = None, 1, labels.examples(id2label)
        else:
            tokenizer = components[entry.text.tokenizer]
            count = TokenCounter.open(folder / tokenizer.name, tokenizer.class_name)
            most, examples = entry.text.limit - entry.text.template, ()
        operations = tuple(dict.fromkeys(("generate", *entry.operations)))
        card = read_card(folder)
        files = used_files(components)
        spec = ModelSpec(
            id=name.rpartition("/")[2],
            family=FAMILY,
            sizes=sizes,
            channels=3,
            parameters=tuple(one for one in entry.parameters if {*one.operations} & {*operations}),
            operations=operations,
            max_prompt_tokens=most,
            digest=digest_of({file: _hash(folder / file) for file in files}),
            license=card.get("license", "unknown"),
            description=card.get("description", entry.title),
            negative_prompt=entry.negative_prompt,
            images=entry.images,
            examples=examples,
        )
        return cls(*(folder, spec, configs, entry), scale=scale, components=components, count=count)

    def with_loras(self, folder: Path | None) -> PipelineCheckpoint:
        """See `Checkpoint.with_loras`."""
        if folder is None or not loras.takes_loras(self.entry.pipeline):
            return self
        found = loras.find_loras(folder.resolve(), self.spec.id)
        if not found:
            return self
        spec = replace(
            self.spec,
            loras=tuple(found),
            parameters=(*self.spec.parameters, loras.SCALE),
            digest=loras.digest_with(self.spec.digest, found),
        )
        other = PipelineCheckpoint(
            *(self.folder, spec, self.configs, self.entry),
            scale=self.scale,
            components=self.components,
            count=self._counter,
            adapters=found,
        )
        other._name = self._name
        return other

    @property
    def id2label(self) -> labels.Labels:
        """The names of the classes, of a pipeline that draws these."""
        found: labels.Labels = self.configs[""].get("id2label", {})
        return found

    @property
    def bytes(self) -> int:
        """See `Checkpoint.bytes`."""
        return self._weights

    @property
    def variant(self) -> str | None:
        """Of the weights, where some have no others, e.g. "fp16"."""
        variants = sorted({one.variant for one in self.components.values()} - {""})
        return variants[0] if variants else None

    def count_tokens(self, prompt: str) -> int:
        """See `Checkpoint.count_tokens`. The name of a class is one."""
        return int(bool(prompt.strip())) if self._count is None else self._count(prompt)

    def check_prompt(self, text: str, field: str) -> None:
        """See `Checkpoint.check_prompt`."""
        if self._count is not None:
            super().check_prompt(text, field)
        elif text.strip():
            try:
                self._class_of(text)
            except InvalidField as error:
                raise InvalidField(field, str(error), code=error.code) from error

    def cost(self, request: ImageRequest) -> int:
        """See `Checkpoint.cost`."""
        doubling = self.entry.batched
        return 2 if doubling and request.value(doubling, 0) > self.entry.above else 1

    def evaluations(self, request: ImageRequest) -> int:
        """See `Checkpoint.evaluations`. Guidance takes two a step, in one call or in two."""
        embedded = self.configs.get(self.entry.network, {}).get("guidance_embeds")
        doubling = {self.entry.batched, "true_guidance", None if embedded else "guidance"}
        doubled = any(name and request.value(name, 0) > self.entry.above for name in doubling)
        return int(request.value("steps", 1)) * (2 if doubled else 1)

    def libraries(self, settings: PipelineSettings) -> Mapping[str, str]:
        """See `Checkpoint.libraries`."""
        packages = ["diffusers", "transformers"]
        if self.loras:
            packages.append("peft")
        if settings.quantization != "none":
            packages.append(PACKAGES[settings.quantization])
        return {
            **{name: _version(name) for name in packages},
            "attention": ATTENTION,
            "offload": settings.offload,
            "quantization": settings.quantization,
            "vae_tiling": str(settings.vae_tiling),
        }

    def less_memory(self, settings: PipelineSettings) -> tuple[str, ...]:
        """See `Checkpoint.less_memory`."""
        return settings.less_memory()

    def previewed_by(self, settings: PipelineSettings) -> str:
        """See `Checkpoint.previewed_by`."""
        return settings.decoder_name

    def build(self, placement: Placement) -> PipelineModel:
        """See `Checkpoint.build`."""
        from model.pipelines.loading import build

        return build(self, placement)


def in_catalogue(folder: Path) -> bool:
    """Whether the class of a pipeline's folder has an entry. Raises `CheckpointError`."""
    folder = folder.resolve()
    index = read_index(folder)
    return find(configs_of(index, read_components(folder, index)), name_of(folder)) is not None


def read_card(folder: Path) -> dict[str, str]:
    """License and description of a model card's front matter, as far as it has them."""
    try:
        lines = (folder / CARD).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    if not lines or lines[0].strip() != "---":
        return {}
    found: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")  # of the first level: others are indented
        if colon and (text := value.strip().strip("'\"")):
            found[key] = text
    if found.get("license") == "other" and "license_name" in found:
        found["license"] = found["license_name"]
    return {key: found[key] for key in ("license", "description") if key in found}


def _check_complete(folder: Path, index: Mapping[str, Any], entry: Entry) -> None:
    """Whether what an entry cannot do without is there. Raises `CheckpointError`."""
    where = folder / INDEX
    parts = listed(index)
    needed = [entry.network, "vae", "scheduler"]
    if entry.text is not None:
        needed += [entry.text.tokenizer, entry.text.tokenizer.replace("tokenizer", "text_encoder")]
    for name in needed:
        if name in parts and parts[name] is None:
            raise CheckpointError(f"{where}: {name} is left out; {entry.pipeline} needs it")
        if name not in parts and not name.startswith("text_encoder"):  # or by another name
            raise CheckpointError(f"{where}: {name} is missing; {entry.pipeline} needs it")
    spare = MAY_LACK.get(entry.pipeline, ())
    together = not any(parts.get(name) for name in spare)
    for name, source in parts.items():
        if source is not None or not name.startswith(("text_encoder", "tokenizer")):
            continue
        if not (together and name in spare):
            raise CheckpointError(f"{where}: {name} is left out; {entry.pipeline} needs it")


def _labels(folder: Path, index: Mapping[str, Any]) -> labels.Labels:
    found = index.get("id2label")
    if (
        not isinstance(found, dict)
        or not found
        or not all(key.isdecimal() and isinstance(label, str) for key, label in found.items())
    ):
        raise CheckpointError(f"{folder / INDEX}: id2label is missing; it names the classes")
    return found


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _is_weights(file: str) -> bool:
    return file.endswith(".safetensors")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
