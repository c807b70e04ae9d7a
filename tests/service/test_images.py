"""If these fail, a real server does not do what the routes promise."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
import pytest
from PIL import Image

from tests.files import read_metadata
from tests.service.running import Service

APPLE = {"prompt": "red apple", "seed": 7}


def test_the_same_request_gives_the_same_bytes_by_post_and_by_address(service: Service) -> None:
    posted = httpx.post(f"{service.url}/v1/images", json=APPLE)
    assert posted.status_code == 200, posted.text
    assert Image.open(BytesIO(posted.content)).size == (16, 16)
    assert httpx.post(f"{service.url}/v1/images", json=APPLE).content == posted.content
    fetched = httpx.get(f"{service.url}/v1/images/7.png", params={"prompt": "red apple"})
    assert fetched.content == posted.content
    metadata = read_metadata(posted.content)
    assert metadata is not None
    models = httpx.get(f"{service.url}/v1/models").json()["data"]
    assert metadata.numerics == models[0]["numerics"]
    assert models[0]["seed_exact"] is True


def test_requests_at_once_share_passes(service: Service) -> None:
    def draw(seed: int) -> bytes:
        body = {"seed": seed, "steps": 40, "prompt": "blue square"}
        return httpx.post(f"{service.url}/v1/images", json=body, timeout=60).content

    with ThreadPoolExecutor(16) as pool:
        for some in range(0, 160, 16):  # sixteen may all have come before the first step
            together = list(pool.map(draw, range(some, some + 16)))
            assert len(set(together)) == 16
            if service.metric("rows_joined_total"):
                break
    passes = service.metric("pass_evaluations_count")
    lone = service.metric('pass_evaluations_bucket{le="2.0",model="tiny"}')
    assert lone < passes, "no pass held more than one guided row"
    assert service.metric("rows_joined_total") > 0


def test_image_k_of_n_is_what_its_seed_gives_alone(service: Service) -> None:
    body = APPLE | {"n": 4, "seed": 100}
    images = httpx.post(f"{service.url}/v1/images", json=body, timeout=60).json()["images"]
    for image in images:
        alone = httpx.post(
            f"{service.url}/v1/images",
            json=APPLE | {"seed": image["seed"]},
            headers={"Accept": "application/json"},
        )
        assert alone.json()["images"][0]["b64_json"] == image["b64_json"]


def test_events_come_while_the_image_is_made(service: Service) -> None:
    def reported(seed: int) -> list[str]:
        with httpx.stream(
            "POST",
            f"{service.url}/v1/images",
            json=APPLE | {"seed": seed, "steps": 100, "previews": True},
            headers={"Accept": "text/event-stream"},
            timeout=60,
        ) as answer:
            assert answer.status_code == 200
            return [line[7:] for line in answer.iter_lines() if line.startswith("event: ")]

    # A reader that is slower than this tiny model, as on a busy machine, misses previews.
    for seed in range(1000, 1010):
        names = reported(seed)
        assert names[-2:] == ["image", "done"]
        assert names.count("preview") <= 7
        if "progress" in names and "preview" in names:
            return
    raise AssertionError("no stream of ten had progress and previews")


def test_who_hangs_up_takes_the_work_along(service: Service) -> None:
    before = service.metric("cancellations_total")
    url = f"{service.url}/v1/images"
    slow = {"prompt": "red apple", "steps": 100, "n": 10}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=slow | {"seed": 50_000}, timeout=httpx.Timeout(5, read=0.01))
    events = {"Accept": "text/event-stream"}
    with httpx.stream("POST", url, json=slow | {"seed": 60_000}, headers=events) as answer:
        assert next(answer.iter_lines())
    for _ in range(100):
        rows = service.metric("cancellations_total")
        requests = service.metric('requests_total{outcome="cancelled"}')
        if rows >= before + 2 and requests >= 2:
            break
        httpx.post(f"{service.url}/v1/images", json=APPLE)
    assert rows >= before + 2
    assert requests >= 2
