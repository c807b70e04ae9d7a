"""Downloads from the Hugging Face Hub into its cache: planned, resumed, explained where they fail.

Files are fetched by ``huggingface_hub``, but for large ones that come by plain HTTP: these go on
where they were cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import importlib
import json
import logging
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import CONFIG, CheckpointError
from model.pipelines.components import INDEX, listed
from model.pipelines.hub import (
    HubError,
    HubName,
    cache_folder,
    find_cached,
    folder_of,
    package,
    select,
)

RESUMED = 10 * 2**20
"""Bytes from which on a download goes on where it was cut off: pieces that are written at once."""

WORKERS = 4
"""Files at once."""

_SHA256 = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository."""

    path: str
    size: int  # bytes
    here: int  # bytes of it that the cache has
    whole: bool  # whether that is all of it
    plain: bool  # whether it comes by plain HTTP


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be downloaded, and whether there is room."""

    name: HubName
    commit: str
    files: tuple[HubFile, ...]
    cache: Path
    free: int  # bytes

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> tuple[HubFile, ...]:
        return tuple(file for file in self.files if not file.whole)

    @property
    def here(self) -> int:
        """Bytes that the cache has."""
        return sum(file.here for file in self.files)

    @property
    def needed(self) -> int:
        """Bytes that are yet to come."""
        return self.size - self.here

    def check_room(self) -> None:
        """Raises `HubError` where there is none."""
        if self.needed > self.free:
            raise HubError(
                f"{self.name}: {size_text(self.needed)} are to come, {self.cache} has "
                f"{size_text(self.free)} free; HF_HOME may lie elsewhere"
            )


Report = Callable[[int], None]
"""Is told of bytes that have come, from several threads."""

Progress = Callable[[Plan], AbstractContextManager[Report]]
"""Shows a download."""


def locate(model: Path, progress: Progress | None = None) -> Path:
    """The folder of ``hf:owner/name[@revision]``: from the cache, else downloaded.

    What the cache has is not compared with the Hub, so that a service starts without a network and
    with the files that it had. Raises `HubError`.
    """
    name = HubName.parse(str(model))
    if (folder := find_cached(name)) is not None:
        return folder
    plan = plan_download(name)
    plan.check_room()
    with (progress or _logged)(plan) as report:
        return download(plan, report)


def plan_download(name: HubName) -> Plan:
    """Asks the Hub what there is. Raises `HubError`."""
    hub = package()
    with _explained(name):
        api = hub.HfApi()
        commit = api.model_info(name.repository, revision=name.revision).sha
        tree = {
            file.path: file
            for file in api.list_repo_tree(name.repository, revision=commit, recursive=True)
            if isinstance(file, hub.hf_api.RepoFile)
        }
        wanted = select(tree, _index_of(name, commit, tree))
        repository = folder_of(name.repository)
        files = [_file(tree[path], repository, commit) for path in wanted]
        return Plan(name, commit, tuple(files), cache_folder(), _free(cache_folder()))


def download(plan: Plan, report: Report) -> Path:
    """The snapshot's folder, once all files are there. Raises `HubError`.

    Interrupted, it stops after the next piece of each file, and goes on from there another time.
    """
    hub, name = package(), plan.name
    stop = threading.Event()

    def told(count: int) -> None:
        if stop.is_set():
            raise _Stopped
        report(count)

    bar = _bar(told)
    with _explained(name):
        with ThreadPoolExecutor(WORKERS) as pool:
            fetching = [
                pool.submit(_fetch, plan, file, bar)
                for file in plan.missing
                if file.plain and file.size >= RESUMED
            ]
            try:
                ended, _ = wait(fetching, return_when=FIRST_EXCEPTION)
                for one in ended:
                    one.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        folder = hub.snapshot_download(
            name.repository,
            revision=name.revision,
            allow_patterns=[glob.escape(file.path) for file in plan.files],
            max_workers=WORKERS,
            tqdm_class=bar,
        )
    return Path(folder)


class _Stopped(Exception):
    """Another file failed, or the user had enough."""


def _fetch(plan: Plan, file: HubFile, bar: type[Any]) -> None:
    """One file into the cache's blobs, from where an earlier download was cut off.

    The blob is what ``huggingface_hub`` then finds and links to.
    """
    hub = package()
    url = hub.hf_hub_url(plan.name.repository, file.path, revision=plan.commit)
    found = hub.get_hf_file_metadata(url)
    blobs = folder_of(plan.name.repository) / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    blob = blobs / found.etag
    part = _part(blob)
    with part.open("ab") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # one process at a time; the next one finds it done
        if blob.exists():
            part.unlink(missing_ok=True)
            return
        have = opened.tell()
        if found.size is not None and have > found.size:
            opened.truncate(have := 0)
        headers = hub.utils.build_hf_headers()
        hub.file_download.http_get(
            *(url, opened),
            resume_size=have,
            headers=headers,
            expected_size=found.size,
            displayed_filename=file.path,
            tqdm_class=bar,
        )
        opened.flush()
        if _SHA256.fullmatch(found.etag):
            with part.open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != found.etag:
                    opened.truncate(0)
                    raise HubError(f"{plan.name}: {file.path} did not arrive as it was sent")
        part.replace(blob)


def _bar(report: Report) -> type[Any]:
    """A progress bar as ``huggingface_hub`` wants it, which shows nothing and reports bytes."""
    base: Any = package().utils.tqdm
    counted = ("huggingface_hub.http_get", "huggingface_hub.snapshot_download")

    class Bar(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._reports = kwargs.get("name") in counted
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            if self._reports and n:
                report(int(n))
            return bool(super().update(n))

    return Bar


@contextmanager
def _logged(plan: Plan, every: float = 10.0) -> Iterator[Report]:
    """A line of the log at the start, the end, and now and then."""
    lock, done, said = threading.Lock(), 0, time.monotonic()
    whole = max(plan.needed, 1)
    log.info("downloading %s: %s", plan.name, size_text(plan.needed))

    def report(count: int) -> None:
        nonlocal done, said
        with lock:
            done += count
            if time.monotonic() - said < every:
                return
            said = time.monotonic()
            message = "downloading %s: %.0f %% of %s"
            log.info(message, plan.name, 100 * done / whole, size_text(plan.needed))

    yield report
    log.info("downloaded %s", plan.name)


@contextmanager
def _explained(name: HubName) -> Iterator[None]:
    """One line for all that can go wrong."""
    hub = package()
    errors, endpoint = hub.errors, hub.constants.ENDPOINT
    http = importlib.import_module("httpx2")
    try:
        yield
    except CheckpointError:
        raise
    except errors.GatedRepoError as error:
        raise HubError(
            f"{name} is gated: accept its terms at {endpoint}/{name.repository}, then set HF_TOKEN "
            "to a token of that account"
        ) from error
    except errors.RepositoryNotFoundError as error:
        private = "a private one, which HF_TOKEN does not open"
        if not hub.get_token():
            private = "a private one, for which HF_TOKEN is needed"
        raise HubError(f"{name}: {endpoint} has no such repository, or {private}") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{name}: {name.repository} has no revision {name.revision}") from error
    except errors.HfHubHTTPError as error:
        raise HubError(f"{name}: {_status(error, endpoint)}") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        if hub.constants.HF_HUB_OFFLINE:
            reason = f"HF_HUB_OFFLINE is set, and {cache_folder()} has not all of it"
        else:
            reason = f"{endpoint} cannot be reached, and {cache_folder()} has not all of it"
        raise HubError(f"{name}: {reason}") from error
    except (http.HTTPError, http.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise HubError(f"{name}: {endpoint} cannot be reached: {reason}") from error
    except errors.HFValidationError as error:
        raise HubError(f"{name}: {_line(error)}") from error
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise HubError(f"{name}: {error.strerror or _line(error)}{place}") from error


def _status(error: Any, endpoint: str) -> str:
    status = error.response.status_code
    match status:
        case 401:
            return f"{endpoint} does not accept HF_TOKEN"
        case 403:
            return f"{endpoint} does not let HF_TOKEN read it"
        case 429:
            return f"{endpoint} has had too many requests; try again later"
    return f"{endpoint} answered with status {status}"


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _part(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.part")


def _file(found: Any, repository: Path, commit: str) -> HubFile:
    """What the Hub says of a file, and how much of it is here."""
    size, blob = found.size, repository / "blobs" / found.blob_id
    if found.lfs is not None:
        size, blob = found.lfs.size, repository / "blobs" / found.lfs.sha256
    whole = (repository / "snapshots" / commit / found.path).exists() or blob.exists()
    here = size if whole else 0
    if not whole:
        with contextlib.suppress(OSError):
            here = min(size, _part(blob).stat().st_size)
    return HubFile(found.path, size, here, whole, plain=found.xet_hash is None)


def _free(folder: Path) -> int:
    """Bytes free where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _index_of(name: HubName, commit: str, tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same of a repository, fetched past the cache. Raises `HubError` for what is no model of
    ours, before gigabytes of it come."""
    file = next((one for one in (INDEX, CONFIG) if one in tree), None)
    if file is None:
        raise HubError(f"{name}: has neither {INDEX} nor {CONFIG}: no model that can be served")
    with tempfile.TemporaryDirectory() as folder:
        path = package().hf_hub_download(
            name.repository, file, revision=commit, local_dir=folder, tqdm_class=_bar(_ignored)
        )
        try:
            content = json.loads(Path(path).read_bytes())
        except ValueError as error:
            raise HubError(f"{name}: its {file} is no JSON") from error
    if not isinstance(content, dict) or (file == CONFIG and "family" not in content):
        raise HubError(f"{name}: no model that can be served: it has no {INDEX}")
    if file == CONFIG:
        return {}
    for part, source in listed(content).items():
        _check_part(name, part, source, tree)
    return content


def _check_part(
    name: HubName, part: str, source: tuple[str, str] | None, tree: Mapping[str, Any]
) -> None:
    """Raises `HubError` for weights that are pickled only."""
    files = [path.removeprefix(f"{part}/") for path in tree if path.startswith(f"{part}/")]
    if source is None or any(file.endswith(".safetensors") for file in files):
        return
    for file in files:
        if file.endswith((".bin", ".ckpt", ".pt", ".pth")):
            message = "pickled weights are never opened, as they can run code"
            raise HubError(f"{name}: {part}/{file}: {message}; it has no safetensors")


def _ignored(count: int) -> None:
    """Of no interest."""


def size_text(size: float) -> str:
    """For people, in decimal units as the Hub has them."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
