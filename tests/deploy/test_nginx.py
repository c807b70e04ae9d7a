"""If these fail, nginx shows to all what was for one, or has drawn what it could have kept.

A real nginx by deploy/nginx, in front of two real services.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.api.auth import hash_key
from app.settings import Settings
from tests.deploy.fleet import ROOT, Deployment, Replica, fleet, free_ports, nginx

Program = Callable[[str], str]


@pytest.fixture(scope="module")
def deployed(
    program: Program, replicas: list[Replica], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    path = program("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    with nginx(path, folder, [replica.port for replica in replicas]) as url:
        yield Deployment("nginx", url, replicas)


def test_what_was_drawn_is_answered_without_a_replica(deployed: Deployment) -> None:
    address = f"{deployed.url}/v1/images/7.png?prompt=red+apple"
    first = httpx.get(address)
    assert (first.status_code, first.headers["x-cache"]) == (200, "MISS")
    asked = deployed.metric("request_seconds_count")
    repeats = [httpx.get(address) for _ in range(20)]
    known = httpx.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert {repeat.content for repeat in repeats} == {first.content}
    assert {repeat.headers["x-cache"] for repeat in repeats} == {"HIT"}
    assert (known.status_code, known.content) == (304, b"")
    scrapes = 2  # of the first look at the metrics
    assert deployed.metric("request_seconds_count") == asked + scrapes


def test_a_client_that_has_the_image_costs_no_drawing(deployed: Deployment) -> None:
    # nginx strips conditions where it caches, unless it is configured otherwise: each
    # revalidation of what nginx has dropped would be drawn.
    address = f"{deployed.url}/v1/images/8.png?prompt=red+apple"
    drawn = deployed.metric("images_total")
    head = httpx.head(address)
    known = httpx.get(address, headers={"If-None-Match": head.headers["etag"]})
    assert (head.status_code, known.status_code) == (200, 304)
    assert deployed.metric("images_total") == drawn
    # And that answer without a body was not kept for those who have nothing.
    whole = httpx.get(address)
    assert (whole.status_code, whole.headers["etag"]) == (200, head.headers["etag"])
    assert whole.content.startswith(b"\x89PNG")


def test_errors_and_posts_are_not_kept(deployed: Deployment) -> None:
    address = f"{deployed.url}/v1/images/7.png?steps=0"
    assert [httpx.get(address).headers["x-cache"] for _ in range(2)] == ["MISS", "MISS"]
    body = {"prompt": "red apple", "seed": 9}
    for _ in range(2):
        answer = httpx.post(f"{deployed.url}/v1/images", json=body)
        assert (answer.status_code, "x-cache" in answer.headers) == (200, False)


def test_an_answer_that_is_to_come_is_not_kept(deployed: Deployment) -> None:
    address = f"{deployed.url}/v1/images/10.png?prompt=red+apple&steps=100"
    drawn = deployed.metric("images_total")
    later = httpx.get(address, headers={"Prefer": "respond-async"})
    assert (later.status_code, later.headers["location"]) == (202, address)
    image = httpx.get(later.headers["location"])  # by the same replica, which draws it by now
    assert (image.status_code, image.headers["x-cache"]) == (200, "MISS")
    again = httpx.get(address, headers={"Prefer": "respond-async"})
    assert (again.status_code, again.headers["x-cache"]) == (200, "HIT")
    assert deployed.metric("images_total") == drawn + 1


def test_private_images_are_not_kept(program: Program, tiny: Path, tmp_path: Path) -> None:
    # Kept, they would be shown to those who have no key.
    path = program("nginx")
    keys = {"API_KEYS": f"anna={hash_key('secret')}"}
    address = "/v1/images/7.png?prompt=red+apple"
    with (
        fleet(tiny, tmp_path, free_ports(1), **keys) as replicas,
        nginx(path, tmp_path, [replicas[0].port]) as url,
    ):
        allowed = {"Authorization": "Bearer secret"}
        for _ in range(2):
            answer = httpx.get(url + address, headers=allowed)
            assert (answer.status_code, answer.headers["x-cache"]) == (200, "MISS")
        assert httpx.get(url + address).status_code == 401


def test_the_configuration_has_the_services_times() -> None:
    # A balancer that gives up first answers 504 for a request that would have been finished.
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert f"proxy_read_timeout {defaults['request_timeout'] + 30:g}s;" in text
    assert f"proxy_next_upstream_timeout {defaults['request_timeout'] - 5:g}s;" in text
    assert defaults["keep_alive"] > 60  # nginx's keepalive_timeout of an upstream
