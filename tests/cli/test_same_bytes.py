"""If this fails, a file that the command line wrote cannot be fetched from the service again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from tests.cli.conftest import Run
from tests.generation.corpus import drawing
from tests.service.running import running


@pytest.fixture(scope="module")
def service(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """With the numerics of this process."""
    folder = tmp_path_factory.mktemp("service")
    threads = str(torch.get_num_threads())
    with (
        running(models["flow"], folder / "log", THREADS=threads, DTYPE="auto") as started,
        httpx.Client(base_url=started.await_ready().url, timeout=60) as client,
    ):
        yield client


def test_the_service_answers_the_same_bytes(
    service: httpx.Client, run: Run, models: dict[str, Path], tmp_path: Path
) -> None:
    drawing(40, 24).save(tmp_path / "disc.png")
    model = f"--seed 7 --model {models['flow']}"
    run(f"generate apple --steps 3 --size 24 --background #123 {model}")
    run(f"generate apple --walk 3 {model}")
    run(f"transform vary disc.png --strength 0.4 {model}")
    image, walk, variation = (
        (tmp_path / "out" / name).read_bytes() for name in ("7.png", "7.webp", "disc-vary-7.png")
    )

    png = {"accept": "image/png"}
    body = {"prompt": "apple", "seed": 7, "steps": 3, "size": 24, "background": "#123"}
    assert service.post("/v1/images", json=body, headers=png).content == image
    query: dict[str, str | int] = {"prompt": "apple", "walk": 3}
    assert service.get("/v1/images/7.webp", params=query).content == walk
    form = {"operation": "vary", "seed": "7", "strength": "0.4"}
    file = {"image": (tmp_path / "disc.png").read_bytes()}
    answer = service.post("/v1/images/transform", data=form, files=file, headers=png)
    assert answer.content == variation
