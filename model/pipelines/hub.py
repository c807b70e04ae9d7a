"""Models of the Hugging Face Hub: their names, and those that its cache on this machine has.

A model is named ``hf:owner/name`` or ``hf:owner/name@revision``. The cache is the one of
``huggingface_hub``, with its variables (``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HOME``,
``HF_HUB_OFFLINE``); that package is imported only where such a name is used.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import CONFIG, CheckpointError
from model.pipelines.components import (
    INDEX,
    INSTALL,
    SMALL_FILES,
    kind_of,
    listed,
    variant_of,
)

PREFIX = "hf:"
MAIN = "main"
CARD = "README.md"

_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^\s@]+))?")
_COPIED = re.compile(r"(https?:/+huggingface\.co/)?(?P<repository>\w[\w.-]*/[\w.-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubError(CheckpointError):
    """A model cannot be had from the Hub. ``str()`` is one line."""


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository, and a branch, tag or commit of it."""

    repository: str  # "owner/name"
    revision: str = MAIN

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Reads ``hf:owner/name[@revision]``. Raises `HubError`."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise HubError(f"{text}: expected hf:owner/name or hf:owner/name@revision")
        return cls(found["repository"], found["revision"] or MAIN)

    def __str__(self) -> str:
        at = "" if self.revision == MAIN else f"@{self.revision}"
        return f"{PREFIX}{self.repository}{at}"


def is_hub_name(text: str) -> bool:
    """Whether this names a model of the Hub rather than a folder."""
    return text.startswith(PREFIX)


def as_hub_name(text: str) -> HubName | None:
    """Of ``owner/name`` or a page's address, as people copy them; a folder may look like it."""
    found = _COPIED.fullmatch(text)
    return HubName(found["repository"]) if found else None


def find_cached(name: HubName) -> Path | None:
    """The snapshot in the cache; None where it is not there, or not all of it."""
    hub = package()
    repository = folder_of(name.repository)
    commit = name.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (repository / "refs" / name.revision).read_text(encoding="utf-8").strip()
        except OSError:
            return None
    snapshot = repository / "snapshots" / commit
    index = _index_in(snapshot)
    if index is None:
        return None
    try:
        tree = hub.get_cached_repo_tree(name.repository, revision=commit)
    except hub.errors.CachedRepoTreeNotFoundError:  # made by an older version, or by hand
        parts = [part for part, source in listed(index).items() if source is not None]
        return snapshot if all((snapshot / part).is_dir() for part in parts) else None
    wanted = select((file.path for file in tree), index)
    return snapshot if all((snapshot / path).exists() for path in wanted) else None


def cached_pipelines() -> list[tuple[HubName, Path]]:
    """Every revision of a pipeline that the cache has whole; none where there is no cache."""
    try:
        cache = cache_folder()
    except HubError:
        return []
    found = []
    for repository in sorted(cache.glob("models--*--*")):
        owner_name = repository.name.removeprefix("models--").replace("--", "/", 1)
        refs = repository / "refs"
        files = sorted(path for path in refs.rglob("*") if path.is_file())
        named = {ref.relative_to(refs).as_posix(): ref.read_text().strip() for ref in files}
        commits = sorted(path.name for path in repository.glob("snapshots/*"))
        for revision in (*named, *(one for one in commits if one not in named.values())):
            name = HubName(owner_name, revision)
            folder = find_cached(name)
            if folder is not None and (folder / INDEX).is_file():
                found.append((name, folder))
    return found


def select(paths: Iterable[str], index: Mapping[str, Any]) -> list[str]:
    """What of a repository is downloaded: of the components that its ``index`` lists the
    configurations, vocabularies and safetensors; no pickles, no code, no second variants such as
    fp16, no single-file checkpoints. Without components: what lies at the top. Sorted.
    """
    parts: dict[str, list[str]] = {"": []}
    parts |= {name: [] for name, source in listed(index).items() if source is not None}
    for path in paths:
        folder, _, file = path.rpartition("/")
        if folder in parts:
            parts[folder].append(file)
    top = parts.pop("")
    found = [file for file in top if file == CARD or _is_small(file)]
    if not parts:
        found += [file for file in top if kind_of(file) == ""]
    variant = variant_of(parts.values())
    for folder, files in parts.items():
        own = variant if variant in map(kind_of, files) else ""
        wanted = (file for file in files if _is_small(file) or kind_of(file) == own)
        found += [f"{folder}/{file}" for file in wanted]
    return sorted(found)


def _is_small(file: str) -> bool:
    return file.endswith(SMALL_FILES) and kind_of(file) is None


def package() -> Any:
    """The package, with the modules that are used. Raises `HubError` where it is missing."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise HubError(f"models of the Hub need huggingface_hub: {INSTALL}") from error
    for module in ("constants", "errors", "file_download", "hf_api", "utils"):
        importlib.import_module(f"huggingface_hub.{module}")
    return hub


def cache_folder() -> Path:
    """Where ``huggingface_hub`` keeps what it downloads."""
    return Path(package().constants.HF_HUB_CACHE)


def folder_of(repository: str) -> Path:
    """A repository's, in the cache."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def _index_in(snapshot: Path) -> Mapping[str, Any] | None:
    """The index of a pipeline; an empty one for a folder of another family; None for neither."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((snapshot / INDEX).read_bytes())
        return found if isinstance(found, dict) else None
    return {} if (snapshot / CONFIG).is_file() else None
