"""If these fail, a real server changes what an edit keeps, draws other pictures in a crowd than
alone, or lets one client's broken files cost the others their answers."""

from __future__ import annotations

import base64
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.generation import corpus
from tests.generation.corpus import drawing, written
from tests.service.running import Service, running

MIB = 2**20


@pytest.fixture(scope="module")
def service(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that remembers nothing: equal bytes were computed twice."""
    log = tmp_path_factory.mktemp("service") / "log"
    with running(tiny, log, CACHE_BYTES="0", FILE_CACHE_BYTES="0") as service:
        yield service.await_ready()


def send(service: Service, files: dict[str, bytes], **fields: object) -> httpx.Response:
    texts = {name: str(value) for name, value in fields.items()}
    return httpx.post(f"{service.url}/v1/images/transform", data=texts, files=files, timeout=60)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (333, 211)])
def test_what_an_edit_keeps_is_equal_to_the_last_byte(
    service: Service, width: int, height: int
) -> None:
    draw = np.random.default_rng(0)
    before = draw.integers(0, 256, (height, width, 4), np.uint8)
    mask = draw.integers(0, 2, (height, width), np.uint8) * np.uint8(255)
    files = {
        "image": written(Image.fromarray(before), "PNG"),
        "mask": written(Image.fromarray(mask), "PNG"),
    }
    answer = send(service, files, operation="inpaint", prompt="red apple", seed=5)
    assert answer.status_code == 200, answer.text
    after = np.asarray(Image.open(BytesIO(answer.content)))
    assert (after[mask == 0] == before[mask == 0]).all()
    assert (after[mask != 0] != before[mask != 0]).mean() > 0.5


IMAGE = {"image": written(drawing(30, 20), "PNG")}
SMALL = {"image": written(drawing(8, 8), "PNG")}
HOLE = IMAGE | {"mask": written(Image.linear_gradient("L").resize((30, 20)), "PNG")}

ASKED: list[tuple[dict[str, bytes] | None, dict[str, Any]]] = [
    (None, {"prompt": "red apple", "steps": 12}),
    (IMAGE, {"operation": "vary", "steps": 9}),
    (IMAGE, {"operation": "restyle", "prompt": "blue square", "steps": 7}),
    (None, {"steps": 20}),
    (HOLE, {"operation": "inpaint", "prompt": "red apple", "steps": 10}),
    (IMAGE, {"operation": "outpaint", "steps": 5}),
    (SMALL, {"operation": "upscale", "steps": 11}),
    (IMAGE, {"operation": "upscale", "steps": 2}),
    (None, {"prompt": "blue square", "guidance": 1.0, "steps": 15}),
    (IMAGE, {"operation": "colorize", "prompt": "red apple", "steps": 6}),
    (IMAGE, {"operation": "denoise", "noise": 0.2}),
]


def draw(service: Service, number: int) -> bytes:
    files, fields = ASKED[number % len(ASKED)]
    fields = fields | {"seed": 100 + number}
    if files is None:
        answer = httpx.post(f"{service.url}/v1/images", json=fields, timeout=60)
    else:
        answer = send(service, files, **fields)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_the_same_seed_gives_the_same_bytes_alone_and_in_a_crowd(
    service: Service, full: bool
) -> None:
    count = 200 if full else 30
    alone = [draw(service, number) for number in range(count)]
    assert len(set(alone)) == count
    shared = service.metric("rows_joined_total")
    order = np.random.default_rng(0).permutation(count).tolist()
    with ThreadPoolExecutor(16) as pool:
        together = dict(zip(order, pool.map(partial(draw, service), order), strict=True))
    assert [together[number] for number in range(count)] == alone
    assert service.metric("rows_joined_total") > shared, "no two of them shared a pass"


def test_picture_k_of_a_transformation_is_what_its_seed_gives_alone(service: Service) -> None:
    fields = {"operation": "restyle", "prompt": "red apple"}
    answer = send(service, IMAGE, n=3, seed=2**53 - 2, **fields)
    pages = [send(service, IMAGE, n=1, seed=seed, **fields) for seed in (2**53 - 2, 2**53 - 1, 0)]
    files = [base64.b64decode(each["b64_json"]) for each in answer.json()["images"]]
    assert files == [page.content for page in pages]


def test_mangled_uploads_cost_nobody_anything(service: Service, full: bool) -> None:
    process = psutil.Process(service.process.pid)
    flood = list(corpus.mangled(600 if full else 150, seed=1))
    grown_once, flood = flood[:50], flood[50:]
    operations = ["vary", "inpaint", "outpaint", "upscale", "colorize", "denoise"]
    stop = threading.Event()

    def upload(number: int, one: corpus.Mangled) -> tuple[str, int]:
        name = "mask" if number % 7 == 0 else "image"
        files = IMAGE | {name: one.file}
        operation = "inpaint" if name == "mask" else operations[number % len(operations)]
        return one.name, send(service, files, operation=operation, steps=1).status_code

    def others() -> list[int]:
        answers: list[int] = []
        while not stop.is_set():
            body = {"seed": len(answers), "steps": 2}
            answers.append(httpx.post(f"{service.url}/v1/images", json=body).status_code)
        return answers

    with ThreadPoolExecutor(4) as pool, ThreadPoolExecutor(1) as other:
        list(pool.map(upload, range(50), grown_once))
        before = process.memory_info().rss
        served = other.submit(others)
        try:
            outcomes = dict(pool.map(upload, range(len(flood)), flood))
        finally:
            stop.set()
        answers = served.result()
    grown = process.memory_info().rss - before
    wrong = {name: status for name, status in outcomes.items() if status not in (200, 400)}
    assert not wrong
    assert set(Counter(outcomes.values())) == {200, 400}
    assert set(answers) == {200}
    assert len(answers) > len(flood) / 20, "others were answered all the while"
    assert grown < 24 * MIB, f"grown by {grown / MIB:.0f} MiB"
    assert service.metric("upload_memory_bytes") == 0


def test_a_client_that_leaves_gives_its_memory_back(service: Service) -> None:
    for _ in range(5):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{service.url}/v1/images/transform",
                data={"operation": "vary", "steps": "100", "n": "10"},
                files={"image": written(Image.effect_noise((1000, 1000), 50), "PNG")},
                timeout=httpx.Timeout(30, read=0.05),
            )
    for _ in range(100):
        if service.metric("upload_memory_bytes") == 0:
            return
        httpx.post(f"{service.url}/v1/images", json={})
    raise AssertionError("what clients sent who have gone is held for ever")
