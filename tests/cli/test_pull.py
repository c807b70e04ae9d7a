"""`tessera pull` against a Hub on this machine: what arrives, what goes on, and a line for all that
can go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub import COMMIT, TOKEN, Hub, hub
from tests.model.pipelines.folders import flux, write_weights

NAME = "owner/flux"
LARGE = "transformer/diffusion_pytorch_model.safetensors"
PIECE = 10 * 2**20  # bytes that are written at once
Pull = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With one file that is large enough to go on with."""
    made = flux(tmp_path_factory.mktemp("models") / "flux")
    big = {"x_embedder.weight": (32, 16), "more": (6_000_000,)}
    write_weights(made / LARGE, **big)
    (made / "README.md").write_text("---\nlicense: mit\n---\n")
    (made / "flux1-dev.safetensors").write_bytes(b"all of it in one file")
    (made / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    return made


@pytest.fixture
def served() -> Iterator[Hub]:
    with hub() as found:
        yield found


@pytest.fixture
def tessera(served: Hub, tmp_path: Path) -> Pull:
    """Runs a command of ``tessera`` with a cache of this test's own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
                "HF_HOME": str(tmp_path / "home"),
                "HF_ENDPOINT": served.endpoint,
                "HF_HUB_ETAG_TIMEOUT": "2",
                "COLUMNS": "200",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.mark.slow
def test_a_model_arrives_and_is_served_without_a_network(
    served: Hub, tessera: Pull, folder: Path, tmp_path: Path
) -> None:
    served.add(NAME, folder)
    done = tessera("pull", NAME)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tessera serve hf:owner/flux\n"
    said = done.stderr.splitlines()[0]
    assert said.startswith("hf:owner/flux: 15 files, 12.0 MB; ")
    assert said.endswith(f"free in {tmp_path / 'home' / 'hub'}")
    files = {file for file, _ in served.downloaded()}
    assert LARGE in files
    assert not files & {"flux1-dev.safetensors", "vae/diffusion_pytorch_model.bin"}
    for arguments in (("models",), ("models", "hf:owner/flux")):
        offline = tessera(*arguments, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
        assert offline.returncode == 0, offline.stderr
        assert "hf:owner/flux" in offline.stdout
        assert "mit" in offline.stdout
    again = tessera("pull", "hf:owner/flux@main")
    assert again.returncode == 0, again.stderr
    assert ", of which 12.0 MB are here; " in again.stderr


def test_a_download_goes_on_where_it_was_cut_off(served: Hub, tessera: Pull, folder: Path) -> None:
    content = served.add(NAME, folder).files[LARGE]
    served.cut[LARGE], served.breaks = 11_000_000, True
    done = tessera("pull", NAME)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: hf:owner/flux: {served.endpoint} answ")
    assert "Traceback" not in done.stderr
    served.status, served.breaks = None, False
    served.asked.clear()
    assert tessera("pull", NAME).returncode == 0
    assert (LARGE, f"bytes={PIECE}-") in served.downloaded()
    assert (LARGE, None) not in served.downloaded()
    assert len(content) > 11_000_000


def test_a_file_that_was_damaged_on_the_way_starts_again(
    served: Hub, tessera: Pull, folder: Path, tmp_path: Path
) -> None:
    """A blob's name is taken for the hash of its content, so it is compared."""
    repository = served.add(NAME, folder)
    served.cut[LARGE], served.breaks = 11_000_000, True
    assert tessera("pull", NAME).returncode == 1
    [part] = (tmp_path / "home" / "hub").rglob("*.part")
    part.write_bytes(b"?" + part.read_bytes()[1:])
    served.status, served.breaks = None, False
    done = tessera("pull", NAME)
    assert done.returncode == 1
    assert f"{LARGE} did not arrive as it was sent" in done.stderr.splitlines()[-1]
    assert tessera("pull", NAME).returncode == 0
    [arrived] = (tmp_path / "home" / "hub").rglob(f"snapshots/*/{LARGE}")
    assert arrived.read_bytes() == repository.files[LARGE]


def test_a_connection_that_breaks_is_taken_up_again(
    served: Hub, tessera: Pull, folder: Path
) -> None:
    served.add(NAME, folder)
    served.cut[LARGE] = 11_000_000
    assert tessera("pull", NAME).returncode == 0
    assert [part for file, part in served.downloaded() if file == LARGE] == [
        None,
        f"bytes={PIECE}-",
    ]


def test_a_commit_can_be_named(served: Hub, tessera: Pull, folder: Path) -> None:
    served.add(NAME, folder)
    done = tessera("pull", f"{NAME}@{COMMIT}")
    assert done.stdout == f"tessera serve hf:owner/flux@{COMMIT}\n", done.stderr
    assert tessera("models", f"hf:{NAME}@{COMMIT}", HF_HUB_OFFLINE="1").returncode == 0


def test_a_private_model_opens_with_a_token(served: Hub, tessera: Pull, folder: Path) -> None:
    served.add(NAME, folder, private=True)
    done = tessera("pull", NAME)
    expected = f"{served.endpoint} has no such repository, or a private one, for which HF_TOKEN is"
    assert refusal(done).startswith(f"hf:owner/flux: {expected}")
    assert tessera("pull", NAME, HF_TOKEN=TOKEN).returncode == 0


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")


def _pickled(files: dict[str, bytes]) -> None:
    del files["text_encoder/model.safetensors"]
    files["text_encoder/pytorch_model.bin"] = b"a pickle"


def _no_pipeline(files: dict[str, bytes]) -> None:
    del files["model_index.json"]


def _another_kind(files: dict[str, bytes]) -> None:
    del files["model_index.json"]
    files["config.json"] = b'{"model_type": "llama"}'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_pickled, "text_encoder/pytorch_model.bin: pickled weights are never opened"),
        (_no_pipeline, "has neither model_index.json nor config.json"),
        (_another_kind, "no model that can be served: it has no model_index.json"),
    ],
)
def test_what_cannot_be_served_is_not_downloaded(
    served: Hub,
    tessera: Pull,
    folder: Path,
    change: Callable[[dict[str, bytes]], None],
    says: str,
) -> None:
    change(served.add(NAME, folder).files)
    assert says in refusal(tessera("pull", NAME))
    assert LARGE not in {file for file, _ in served.downloaded()}


def test_what_turns_out_broken_says_so(served: Hub, tessera: Pull, folder: Path) -> None:
    served.add(NAME, folder).files["vae/config.json"] = b"{"
    done = tessera("pull", NAME)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: hf:owner/flux is here now, but cannot be served: ")
    assert "vae/config.json: no JSON" in line


@pytest.mark.slow
def test_each_refusal_is_one_line(served: Hub, tessera: Pull, folder: Path) -> None:
    at = served.endpoint
    served.add("owner/gated", folder, gated=True)
    served.add(NAME, folder)
    for name, environment, says in (
        ("owner/gated", {}, f"hf:owner/gated is gated: accept its terms at {at}/owner/gated, then"),
        ("owner/none", {}, f"hf:owner/none: {at} has no such repository, or a private one"),
        ("owner/none", {"HF_TOKEN": TOKEN}, "a private one, which HF_TOKEN does not open"),
        (NAME, {"HF_TOKEN": "hf_wrong"}, f"hf:owner/flux: {at} does not accept HF_TOKEN"),
        (f"{NAME}@v9", {}, "hf:owner/flux@v9: owner/flux has no revision v9"),
        (NAME, {"HF_HUB_OFFLINE": "1"}, "hf:owner/flux: HF_HUB_OFFLINE is set, and "),
        (NAME, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached: "),
        ("flux", {}, "hf:flux: expected hf:owner/name or hf:owner/name@revision"),
    ):
        assert says in refusal(tessera("pull", name, **environment)), name
    served.status = 503
    assert f"{at} answered with status 503" in refusal(tessera("pull", NAME))


def test_a_cache_that_cannot_be_written_is_one_line(
    served: Hub, tessera: Pull, folder: Path, tmp_path: Path
) -> None:
    served.add(NAME, folder)
    (tmp_path / "file").touch()
    line = tessera("pull", NAME, HF_HOME=str(tmp_path / "file")).stderr.splitlines()[-1]
    assert line.startswith("error: hf:owner/flux: Not a directory")


def test_help_downloads_nothing(served: Hub, tessera: Pull, folder: Path) -> None:
    served.add(NAME, folder)
    assert tessera("generate", "--model", "hf:owner/flux", "--help").returncode == 0
    assert not served.asked


def test_a_command_fetches_the_model_that_it_is_given(
    served: Hub, tessera: Pull, folder: Path
) -> None:
    served.add(NAME, folder)
    done = tessera("generate", "a", "--model", "hf:owner/flux", "--guidance", "99")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: --guidance 99 was given, 1 to 20 is accepted"
    assert LARGE in {file for file, _ in served.downloaded()}
