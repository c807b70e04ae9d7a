"""If these fail, signed images go out unsigned, or caches mistake one signature for another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import c2pa
import httpx
import pytest
import pytest_asyncio
from PIL import Image

from app.api.deps import Services
from app.engine import Engine
from app.main import assemble
from app.metrics import Metrics
from app.settings import Settings
from tests.api.application import application, asking_app, error, png
from tests.certificates import chain
from tests.generation.corpus import drawing

ADDRESS = "/v1/images/7.png?prompt=a&steps=2&size=32"


@pytest.fixture
def settings(no_dotenv: None, tmp_path: Path) -> Settings:
    made = chain(tmp_path)
    return Settings(c2pa_certificates=made.certificates, c2pa_key=made.key, file_cache_bytes=0)


@pytest_asyncio.fixture(loop_scope="session")
async def services(
    engine: Engine, settings: Settings, metrics: Metrics
) -> AsyncIterator[tuple[Services, httpx.AsyncClient]]:
    async with application(engine, settings, metrics) as app, asking_app(app) as client:
        yield app.state.services, client


def source(answer: httpx.Response) -> str:
    """What the signed manifest of an image says it is."""
    assert answer.status_code == 200
    with c2pa.Reader(answer.headers["content-type"], BytesIO(answer.content)) as reader:
        assert reader.get_validation_state() == "Valid"
        found = reader.get_active_manifest()
    assert found is not None
    (action,) = found["assertions"][0]["data"]["actions"]
    return str(action["digitalSourceType"]).rpartition("/")[2]


async def test_every_image_is_signed(services: tuple[Services, httpx.AsyncClient]) -> None:
    _, client = services
    body = {"seed": 7, "prompt": "a", "steps": 2}
    for more in ({}, {"format": "webp"}, {"format": "jpeg"}, {"walk": 3}, {"metadata": "none"}):
        answer = await client.post("/v1/images", json=body | more)
        assert source(answer) == "trainedAlgorithmicMedia"
    form = {"operation": "vary", "steps": "2"}
    files = {"image": png(drawing())}
    answer = await client.post("/v1/images/transform", data=form, files=files)
    assert source(answer) == "compositeWithTrainedAlgorithmicMedia"


async def test_its_name_is_weak_and_still_known(
    services: tuple[Services, httpx.AsyncClient],
) -> None:
    _, signing = services
    one, again = [await signing.get(ADDRESS) for _ in range(2)]
    assert one.content != again.content  # salts are random
    first, other = (Image.open(BytesIO(answer.content)) for answer in (one, again))
    assert first.tobytes() == other.tobytes()
    name = one.headers["etag"]
    assert again.headers["etag"] == name
    assert name.startswith('W/"')
    for given in (name, name.removeprefix("W/"), f'"x", {name}'):
        answer = await signing.get(ADDRESS, headers={"If-None-Match": given})
        assert (answer.status_code, answer.headers["etag"]) == (304, name)
    assert (await signing.head(ADDRESS)).headers["etag"] == name


async def test_another_signer_s_image_has_another_name(
    engine: Engine, services: tuple[Services, httpx.AsyncClient], tmp_path: Path
) -> None:
    _, signing = services
    other = chain(tmp_path / "other")
    names = {(await signing.head(ADDRESS)).headers["etag"]}
    for settings in (
        Settings(c2pa_certificates=other.certificates, c2pa_key=other.key),
        Settings(),
    ):
        async with asking_app(assemble(settings, engine, Metrics())) as client:
            names.add((await client.head(ADDRESS)).headers["etag"])
    assert len({name.removeprefix("W/") for name in names}) == 3


async def test_nothing_is_drawn_that_could_not_be_signed(
    services: tuple[Services, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, client = services
    assert (await client.get("/readyz")).status_code == 200
    monkeypatch.setattr(parts.images._credentials, "until", datetime(2020, 1, 1, tzinfo=UTC))
    for answer in (await client.get(ADDRESS), await client.get("/readyz")):
        assert (answer.status_code, error(answer)["code"]) == (503, "not_ready")
        assert "certificate that signs images ended on 2020-01-01" in error(answer)["message"]
