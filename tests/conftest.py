"""What every test may ask for: a program from Debian, the training data, the full counts, models.

A missing program is a skip with its reason; under TESSERA_TEST_REQUIRE=1 (CI) it is a failure, so
that nothing is left out unseen. The training data is not part of the product and may always be
absent.
"""

import gc
import os
import shutil
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Here and in the servers that tests start: threads that wait for work must not spin on the cores
# that another process of the same test needs. Read when torch is loaded, so set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The tests' models are so small that more threads cost more than they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it; tables are as wide as it says


def _take(name: str) -> str:
    return os.environ.pop(f"TESSERA_TEST_{name}", "")


# Taken out of the environment: the servers that tests start would warn of settings unknown to them.
REQUIRE = _take("REQUIRE") not in ("", "0")
FULL = _take("FULL") not in ("", "0")
SOAK = float(_take("SOAK") or 0)  # seconds for which tests/deploy/test_soak.py runs
IMAGE = _take("IMAGE")  # a built container image, for tests/deploy/test_image.py
# A folder of packages, and a Python that has some, for tests/service/test_other_clients.py: larger
# than what they test.
NODE_MODULES, CLIENTS_PYTHON = _take("NODE_MODULES"), _take("PYTHON")
DATA = Path(_take("DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """`program("nginx")` is the program's path; without it the test skips, or fails in CI."""

    def find(name: str) -> str:
        # pip's programs lie beside this Python. Debian keeps servers in sbin, which is not on every
        # user's PATH.
        beside = f"{Path(sys.executable).parent}:/usr/sbin:/sbin:/usr/local/sbin"
        path = shutil.which(name) or shutil.which(name, path=beside)
        if path is not None:
            return path
        reason = f"the program {name!r} is not installed (.ci/run installs it)"
        if REQUIRE:
            pytest.fail(f"{reason}, and TESSERA_TEST_REQUIRE is set")
        pytest.skip(reason)

    return find


@pytest.fixture(scope="session")
def chromium(program: Callable[[str], str]) -> str:
    """The path of a Chromium without windows, which needs two thirds of the CPU time, or else of
    one with them."""
    names = ("chromium-headless-shell", "chromium")
    return program(next(filter(shutil.which, names), names[0]))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the emoji sets and CIFAR-10; the test skips where it is absent."""
    if not (DATA / "emoji_noto" / "captions.jsonl").is_file():
        pytest.skip(f"no training data in {DATA} (TESSERA_TEST_DATA names another folder)")
    return DATA


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether to use the stated counts (`make check-full`) rather than the reduced ones."""
    return FULL


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random checkpoints of 16 pixels: a folder for each family, by its name, and one for "opaque",
    a flow of images without transparency."""
    from tests.tiny import tiny_flow, tiny_gan, tiny_gpt

    folder = tmp_path_factory.mktemp("models")
    return {
        "flow": tiny_flow(folder / "tiny"),
        "gpt": tiny_gpt(folder / "tiny-gpt"),
        "gan": tiny_gan(folder / "tiny-gan"),
        "opaque": tiny_flow(folder / "tiny-opaque", channels=3),
    }


@pytest.fixture
def no_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's .env must not change what is tested."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def measured_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that want a figure of a model's speed, not a good one."""
    monkeypatch.setattr("model.runtime.benchmark.LEAST_SECONDS", 0.0)


def pytest_configure(config: pytest.Config) -> None:
    global REQUIRE, FULL, SOAK, IMAGE, NODE_MODULES, CLIENTS_PYTHON, DATA
    if hasattr(config, "workerinput"):
        REQUIRE, FULL, SOAK, IMAGE, NODE_MODULES, CLIENTS_PYTHON, data = config.workerinput["asked"]
        DATA = Path(data)
    # A developer's settings must not change what the tests and the servers they start see.
    for name in list(os.environ):
        if name.startswith("TESSERA_") and not name.startswith("TESSERA_TEST_"):
            del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # a process of pytest-xdist's
    """Tells it what was asked for: its environment no longer does."""
    node.workerinput["asked"] = (
        *(REQUIRE, FULL, SOAK, IMAGE, NODE_MODULES, CLIENTS_PYTHON),
        str(DATA),
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What test files import (torch, diffusers) stays: else the garbage collector looks through it
    in one test of ten, for half a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and not has_cuda():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
