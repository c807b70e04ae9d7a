"""SHA-256 of files that may be tens of gigabytes: computed once, remembered, never stale."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from model.checkpoint import hash_of

LARGE = 2**20
"""Bytes from which on a file's hash is remembered."""

SETTLED = 2.0
"""Seconds after its last change from which on a file's times tell it from a later version, as the
clocks of file systems are coarse."""

_BLOB = re.compile(r"[0-9a-f]{64}")


def sha256(path: Path) -> str:
    """Hex SHA-256 of the content. Raises ``OSError``.

    A link into the Hub's cache is named by it there. Others are read, the large ones once: what is
    remembered holds for one path, inode, size and time of change, to the nanosecond.
    """
    if path.is_symlink():
        target = path.resolve(strict=True)
        if target.parent.name == "blobs" and _BLOB.fullmatch(target.name):
            return target.name
    before = _state(path)
    if before["size"] < LARGE:
        return hash_of(path)
    key = str(path.absolute())
    known = _load().get(key)
    if isinstance(known, dict) and {**known, **before} == known:
        return str(known["sha256"])
    digest = hash_of(path)
    changed = max(before["mtime"], before["ctime"]) / 1e9
    if _state(path) == before and changed < time.time() - SETTLED:
        _remember(key, {**before, "sha256": digest})
    return digest


def cache_file() -> Path:
    """Where hashes are kept: in the user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "tessera" / "hashes.json"


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {
        "size": found.st_size,
        "mtime": found.st_mtime_ns,
        "ctime": found.st_ctime_ns,
        "inode": found.st_ino,
    }


def _load() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no home, no file, no JSON
        found = json.loads(cache_file().read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _remember(key: str, entry: dict[str, Any]) -> None:
    """Written whole or not at all; where it cannot be written, nothing is remembered."""
    with contextlib.suppress(OSError, RuntimeError):
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: known for name, known in _load().items() if Path(name).exists()}
        text = json.dumps({**kept, key: entry}, indent=1)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            try:
                file.write(text)
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
