"""A Hugging Face Hub on this machine: the few routes that a download takes, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """Files of one commit, the branch main of it, and who may read them."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False  # its terms have not been accepted
    private: bool = False  # opens with `TOKEN`


@dataclass
class Hub:
    """What is asked of it is in ``asked``: method, path, and the range if there was one."""

    endpoint: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    """Bytes of a file after which the connection ends, once."""
    breaks: bool = False  # whether the server fails (500) from then on
    status: int | None = None  # answers everything with it
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def add(self, name: str, folder: Path, **options: Any) -> Repository:
        """A repository of a folder's files."""
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self.repositories[name] = Repository(files, **options)
        return self.repositories[name]

    def downloaded(self) -> list[tuple[str, str | None]]:
        """The files that were sent, or parts of them."""
        return [
            (path.partition(f"/resolve/{COMMIT}/")[2], part)
            for method, path, part in self.asked
            if method == "GET" and "/resolve/" in path
        ]


@contextmanager
def hub() -> Iterator[Hub]:
    """Serves until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    found = Hub(f"http://127.0.0.1:{server.server_port}")
    server.hub = found  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_large(path: str) -> bool:
    """Whether a file is kept apart from git, and so named by its SHA-256."""
    return path.endswith(".safetensors")


def blob_of(path: str, content: bytes) -> str:
    if is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()  # noqa: S324


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    @property
    def _hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self._hub.asked.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if self._hub.status is not None:
            self._refuse(self._hub.status, None)
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._refuse(404, "RepoNotFound")

    def _open(self, name: str, revision: str) -> Repository | None:
        """The repository; None where it was refused."""
        repository = self._hub.repositories.get(name)
        authorized = self.headers.get("Authorization")
        if authorized not in (None, f"Bearer {TOKEN}"):
            self.close_connection = True
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and authorized is None):
            self._refuse(404 if authorized else 401, "RepoNotFound")
        elif revision not in ("main", repository.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            return repository
        return None

    def _api(self, name: str, rest: list[str]) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        repository = self._open(name, revision)
        if repository is None:
            return
        if rest[:1] == ["tree"]:
            self._json([_listed(path, content) for path, content in repository.files.items()])
        else:
            self._json({"id": name, "sha": repository.commit, "private": repository.private})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._open(name, revision)
        if repository is None:
            return
        if repository.gated:
            self._refuse(403, "GatedRepo")
        elif path not in repository.files:
            self._refuse(404, "EntryNotFound")
        else:
            self._send(repository, path)

    def _send(self, repository: Repository, path: str) -> None:
        content = repository.files[path]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("ETag", f'"{blob_of(path, content)}"')
        self.send_header("Accept-Ranges", "bytes")
        if start:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        end = self._hub.cut.pop(path, None)
        self.wfile.write(content[start:end])
        if end is not None:
            self.close_connection = True
            self._hub.status = 500 if self._hub.breaks else None

    def _refuse(self, status: int, code: str | None, message: str | None = None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _listed(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest(),  # noqa: S324
    }
    if is_large(path):
        large = {"oid": blob_of(path, content), "size": len(content), "pointerSize": 134}
        entry["lfs"] = large
    return entry
