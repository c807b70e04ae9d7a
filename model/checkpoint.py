"""A checkpoint folder that has been looked at, not loaded. Imports no torch.

Each family has a `Checkpoint` of its own, which knows the folder's files and what its network
costs; `model.registry.open_checkpoint` finds it. `TokenizedCheckpoint` is what those in this tree
share: ``config.json``, ``model.safetensors`` and ``tokenizer.json``. Only safetensors are read: a
pickle can run code when it is opened.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from safetensors import SafetensorError, safe_open

from model.files import write_aside
from model.pipelines.settings import PipelineSettings
from model.protocol import ImageModel
from model.request import ImageRequest, InvalidField
from model.spec import ModelSpec, Style
from model.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from model.runtime.fixed_pass import Mode


CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
TRAINED = "checkpoint"
"""Where a training run's folder has its model."""

LFS = b"version https://git-lfs"
PICKLES = ("*.pt", "*.pth", "*.bin", "*.ckpt", "*.pkl")


class CheckpointError(Exception):
    """A checkpoint cannot be used. ``str()`` names the file and says why."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs: all of it is part of numerics."""

    device: str  # "cpu", "cuda:0"
    dtype: Literal["fp32", "bf16"]
    tile: int  # evaluations in every pass of the network
    mode: Mode
    pipelines: PipelineSettings = field(default_factory=PipelineSettings)


class Checkpoint(ABC):
    """What a family makes of a folder. `open` finds all that can be wrong without the network."""

    tiles: ClassVar[Mapping[str, int]] = {"cpu": 8, "cuda": 32}
    """The most evaluations in a pass where no tile is set, by the type of the device."""

    _name: str | None = None  # where it is not the folder's

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self.folder = folder
        self.spec = spec

    @property
    def bytes(self) -> int:
        """Of the weights, on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*.safetensors"))

    @classmethod
    @abstractmethod
    def open(cls, folder: Path) -> Self:
        """Reads a folder. Raises `CheckpointError`."""

    @abstractmethod
    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, of which ``spec.max_prompt_tokens`` are accepted."""

    def check_prompt(self, text: str, field: str) -> None:
        """Raises `InvalidField` (of ``field``) for a text that the model does not take."""
        tokens, most = self.count_tokens(text), self.spec.max_prompt_tokens
        if tokens > most:
            message = f"has {tokens} tokens, {self.spec.id} takes at most {most}"
            raise InvalidField(field, message, code="prompt_too_long")

    def cost(self, request: ImageRequest) -> int:
        """The most evaluations that one pass of the request's row takes."""
        return 1

    def evaluations(self, request: ImageRequest) -> int:
        """All evaluations that the request takes, about: what rate limits count."""
        return int(request.value("steps", 1)) * self.cost(request)

    def with_loras(self, folder: Path | None) -> Checkpoint:
        """The same with those adapters of a folder that are for it; itself where it takes none.

        Raises `CheckpointError`.
        """
        return self

    def libraries(self, settings: PipelineSettings) -> Mapping[str, str]:
        """What else may change the model's bits, by name: part of numerics."""
        return {}

    def less_memory(self, settings: PipelineSettings) -> tuple[str, ...]:
        """The family's settings that would take less memory than these."""
        return ()

    def previewed_by(self, settings: PipelineSettings) -> str | None:
        """What makes its previews, where there is a choice: "vae", "linear" or a decoder's name."""
        return None

    @property
    def address(self) -> Path:
        """What `model.registry.open_checkpoint` opens the same from, under the same name."""
        return self.folder if self._name is None else Path(f"{self._name}={self.folder}")

    def named(self, name: str) -> Self:
        """The same under another name."""
        other = copy(self)
        other._name = name
        other.spec = replace(self.spec, id=name)
        return other

    def copied(self, within: Path) -> Checkpoint:
        """The same from a copy of its files in ``within``; itself where they are too large for one.

        Raises ``OSError``.
        """
        return self

    @abstractmethod
    def build(self, placement: Placement) -> ImageModel[Any]:
        """The model with its weights. Imports torch. Raises `CheckpointError`."""


class CheckpointConfig(BaseModel):
    """``config.json``: what those of all families in this tree have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    family: str
    description: str
    description_chinese: str = Field("", exclude_if=lambda text: not text)
    license: str = Field(validation_alias=AliasChoices("license", "licence"))
    styles: tuple[Style, ...] = Field((), exclude_if=lambda styles: not styles)
    examples: tuple[str, ...] = Field((), exclude_if=lambda examples: not examples)

    @field_validator("styles")
    @classmethod
    def _told_apart(cls, styles: tuple[Style, ...]) -> tuple[Style, ...]:
        for name in ("name", "prompt", "chinese"):
            values = [getattr(style, name) for style in styles]
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"two have the {name} {twice!r}")
        return styles

    @property
    def about(self) -> dict[str, Any]:
        """What a `ModelSpec` says as the file does."""
        said = ("family", "license", "description", "description_chinese", "styles", "examples")
        return {name: getattr(self, name) for name in said}

    @property
    def vocabulary(self) -> int:
        """Prompt tokens that the network has room for."""
        raise NotImplementedError

    def spec(self, id: str, digest: str) -> ModelSpec:  # noqa: A002 - the field's name
        """What can be known of the model without running it."""
        raise NotImplementedError


C = TypeVar("C", bound=CheckpointConfig)


class TokenizedCheckpoint(Checkpoint, Generic[C]):
    """``config.json``, ``model.safetensors``, ``tokenizer.json`` and ``more_files``.

    Of ``optional_files`` it has those that are there.
    """

    more_files: ClassVar[tuple[str, ...]] = ()
    optional_files: ClassVar[tuple[str, ...]] = ()
    config_type: ClassVar[type[CheckpointConfig]]

    def __init__(
        self, folder: Path, config: C, spec: ModelSpec, tokenizer: PromptTokenizer
    ) -> None:
        super().__init__(folder, spec)
        self.config = config
        self.tokenizer = tokenizer
        self._count = lru_cache(1024)(lambda prompt: len(tokenizer.tokens(prompt)))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """See `Checkpoint.open`."""
        folder = folder.absolute()  # a link's name is the model's
        files = cls._files(folder)
        check_files(folder, files)
        config: Any = read_config(folder / CONFIG, cls.config_type)
        tokenizer = _read_tokenizer(folder / TOKENIZER)
        if tokenizer.vocabulary > config.vocabulary:
            raise CheckpointError(
                f"{folder / TOKENIZER}: has {tokenizer.vocabulary} tokens, "
                f"{CONFIG} has room for {config.vocabulary}"
            )
        id_ = name_of(folder).rpartition("/")[2]
        opened = cls(folder, config, config.spec(id_, digest(folder, files)), tokenizer)
        for example in config.examples:
            try:
                opened.check_prompt(example, "examples")
            except InvalidField as error:
                raise CheckpointError(
                    f"{folder / CONFIG}: examples: {example!r} {error}"
                ) from error
        return opened

    def count_tokens(self, prompt: str) -> int:
        """See `Checkpoint.count_tokens`."""
        return self._count(prompt)

    def copied(self, within: Path) -> Self:
        """See `Checkpoint.copied`."""
        folder = within / self.spec.id  # the folder's name is the model's
        folder.mkdir()
        for name in self._files(self.folder):
            shutil.copyfile(self.folder / name, folder / name)
        opened = self.open(folder)
        return opened if self._name is None else opened.named(self._name)

    @classmethod
    def _files(cls, folder: Path) -> tuple[str, ...]:
        found = (name for name in cls.optional_files if (folder / name).exists())
        return (CONFIG, WEIGHTS, TOKENIZER, *cls.more_files, *found)


_SNAPSHOT = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)")


def name_of(folder: Path) -> str:
    """A folder's name; "owner/name" in the cache of the Hugging Face Hub, where folders are called
    by their revision; the run's for the checkpoint of a training run."""
    if folder.name == TRAINED:
        folder = folder.parent
    found = _SNAPSHOT.fullmatch(folder.parent.parent.name)
    if found is None or folder.parent.name != "snapshots":
        return folder.name
    return f"{found['owner']}/{found['name']}"


B = TypeVar("B", bound=BaseModel)


def read_config(path: Path, model: type[B]) -> B:
    """A ``config.json``. Raises `CheckpointError` naming the field that is wrong."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointError(f"{path}: {field}: {first['msg']}") from error


def check_shape(network: DataclassInstance, may_be_none: Iterable[str] = ()) -> None:
    """Raises ``ValueError`` for a size below 1 (0 in ``may_be_none``), and heads of parts."""
    sizes = {one.name: getattr(network, one.name) for one in fields(network)}
    for name, value in sizes.items():
        least = 0 if name in may_be_none else 1
        if type(value) is int and value < least:
            raise ValueError(f"{name} is {value}, at least {least} is needed")
    width, heads = sizes.get("width"), sizes.get("heads")
    if width and heads and width % heads:
        raise ValueError(f"width {width} must be a multiple of heads {heads}")


def digest(folder: Path, files: Iterable[str]) -> str:
    """Hex SHA-256 over names and contents of the files, for ``ModelSpec.digest``."""
    return digest_of({name: hash_of(folder / name) for name in files})


def digest_of(hashes: Mapping[str, str]) -> str:
    """The same, where the contents' own SHA-256 are known by name."""
    lines = (f"{name} {content}\n" for name, content in hashes.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hash_of(path: Path) -> str:
    """Hex SHA-256 of a file's content. Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, files: Iterable[str]) -> None:
    """Raises `CheckpointError` for a missing file, and for weights that are no safetensors."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    files = tuple(files)
    missing = [name for name in files if not (folder / name).is_file()]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if WEIGHTS in missing and pickles:
        raise CheckpointError(
            f"{folder / pickles[0]}: pickled weights are never opened, as they can run code; "
            f"save them as {WEIGHTS}"
        )
    if missing:
        raise CheckpointError(
            f"{folder / missing[0]}: missing; such a checkpoint has {', '.join(files)}"
        )
    try:
        with safe_open(folder / WEIGHTS, framework="numpy"):
            pass
    except SafetensorError as error:
        with (folder / WEIGHTS).open("rb") as file:
            pointer = file.read(len(LFS)) == LFS
        what = (
            "is a pointer of Git LFS, and not the file; get that with: git lfs pull"
            if pointer
            else f"not in safetensors format: {error}"
        )
        raise CheckpointError(f"{folder / WEIGHTS}: {what}") from error


def _read_tokenizer(path: Path) -> PromptTokenizer:
    try:
        return PromptTokenizer.load(path)
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{path}: no tokenizer: {error}") from error


CAPTIONS = "captions.txt"
"""What a model's images were captioned with, a line each.

Where an image without a prompt would be none (the mean of all, or the likeliest first codes and
nothing after them), the model draws one of these instead.
"""


def save_captions(folder: Path, captions: Iterable[str]) -> None:
    """Each once, in the order of their letters, without line breaks or empty ones."""
    lines = sorted({" ".join(caption.split()) for caption in captions} - {""})
    text = "".join(f"{line}\n" for line in lines)
    write_aside(folder / CAPTIONS, lambda part: part.write_text(text, encoding="utf-8"))


def load_captions(folder: Path) -> list[str]:
    """Raises `CheckpointError`."""
    try:
        return (folder / CAPTIONS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / CAPTIONS}: not text in UTF-8: {error}") from error
