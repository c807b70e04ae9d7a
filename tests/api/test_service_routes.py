"""If these fail, balancers, monitoring and people cannot tell what runs here, or how well."""

from __future__ import annotations

import asyncio
import re

import httpx

from app.engine import Engine
from app.metrics import Load, Metrics
from app.settings import Settings
from model.protocol import Pass
from tests.api.application import asking, metric
from tests.engine.fakes import fake_engine, started, until
from tests.tiny import PROMPTS


async def test_probes_answer(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_models_say_what_they_take(client: httpx.AsyncClient, engine: Engine) -> None:
    listed = (await client.get("/v1/models")).json()
    models = [(await client.get(f"/v1/models/{id_}")).json() for id_ in engine.checkpoints]
    assert listed.pop("limits") == {
        "n": 10,
        "walk": 24,
        "size": 1024,
        "prompt_characters": 5000,
        "upload_bytes": 2**24,
        "upload_pixels": 2**24,
    }
    edits = listed.pop("edits")
    assert set(edits) - {"edit"} == set(models[0]["operations"]) - {"generate", "walk"}
    assert edits["outpaint"] == {
        "does": "inpaint",
        "takes": ["left", "top", "right", "bottom"],
        "defaults": {"strength": 1.0},
        "fixed": ["strength"],
        "needs_prompt": False,
        "keeps": True,
        "several": False,
    }
    assert (edits["restyle"]["does"], edits["restyle"]["defaults"]) == ("vary", {"strength": 0.8})
    assert listed == {"object": "list", "data": models, "docs": True}
    flow, gpt, gan = models
    parameters = flow.pop("parameters")
    spec, loaded = engine.checkpoints["tiny"].spec, engine.models["tiny"]
    assert flow == {
        "id": "tiny",
        "object": "model",
        "created": 0,
        "owned_by": "tessera",
        "family": "flow",
        "description": "random weights for tests",
        "description_chinese": "",
        "license": "Apache-2.0",
        "digest": spec.digest,
        "sizes": {
            "width": 16,
            "height": 16,
            "others": [],
            "multiple": 0,
            "low": 0,
            "high": 0,
            "pixels": 0,
            "upscaled": 512,
        },
        "transparency": True,
        "negative_prompt": False,
        "operations": [
            *("generate", "walk", "vary", "restyle", "inpaint"),
            *("outpaint", "upscale", "colorize", "denoise"),
        ],
        "max_prompt_tokens": 48,
        "images": 1,
        "loras": [],
        "styles": [],
        "examples": [],
        "preview_decoder": None,
        "numerics": loaded.numerics,
        "seed_exact": True,
        "device": loaded.device,
        "dtype": "fp32",
        "tile": 8,
        "rungs": list(loaded.rungs),
    }
    assert loaded.rungs[-1] == 8
    steps = parameters[0]
    assert steps.pop("description").startswith("Denoising steps.")
    assert steps.pop("operations") == list(spec.operations)
    assert steps.pop("defaults") == {}
    assert steps == {"name": "steps", "minimum": 1, "maximum": 100, "default": 4, "step": 1}
    assert {each["name"]: each["default"] for each in parameters} == {
        "steps": 4,
        "guidance": 2,
        "solver_order": 1,
        "strength": 1,
        "noise": None,
    }
    assert gpt["operations"] == ["generate", "describe", "inpaint", "outpaint"]
    assert {each["name"]: (each["minimum"], each["maximum"]) for each in gpt["parameters"]} == {
        "steps": (16, 16),
        "guidance": (1, 10),
        "temperature": (0, 2),
        "top_k": (0, 12),
        "top_p": (0, 1),
    }
    assert gan["operations"] == ["generate", "walk"]
    assert gan["styles"][0] == {
        "name": "fluent 3d",
        "label": "Fluent 3D",
        "prompt": ", fluent 3d style",
        "chinese": "，fluent 3d 风格",
    }
    assert [style["name"] for style in gan["styles"]] == ["fluent 3d", "noto"]
    assert gan["examples"] == PROMPTS
    assert gan["parameters"][0]["operations"] == ["generate", "walk"]
    assert gpt["parameters"][0]["operations"] == ["generate", "inpaint"]


async def test_the_status_is_how_busy_each_model_is(settings: Settings) -> None:
    metrics = Metrics()
    async with started(fake_engine("slow", "fast", metrics=metrics, tile=4)) as engine:
        await engine.wait_ready()
        async with asking(engine, settings, metrics) as client:
            idle = {"waiting": 0, "running": 0}
            assert (await client.get("/v1/status")).json() == {
                "state": "ready",
                "models": {"slow": idle, "fast": idle},
            }
            # A row takes two evaluations of a tile of four, and one more tile's worth may be there.
            body = {"model": "slow", "prompt": "a", "n": 10, "steps": 1000}
            asked = asyncio.create_task(client.post("/v1/images", json=body))
            await until(lambda: metrics.load.get("slow", Load()).running == 2)
            assert (await client.get("/v1/status")).json() == {
                "state": "ready",
                "models": {"slow": {"waiting": 8, "running": 2}, "fast": idle},
            }
            asked.cancel()


async def test_metrics_count_by_route_and_outcome(client: httpx.AsyncClient) -> None:
    counts = [
        f'request_seconds_count{{outcome="{outcome}",route="/v1/images/{{seed}}.{{format}}"}}'
        for outcome in ("ok", "invalid", "not_modified")
    ]
    before = [await metric(client, count) for count in counts]
    answer = await client.get("/v1/images/7.png?prompt=secret")
    again = {"If-None-Match": answer.headers["etag"]}
    await client.get("/v1/images/7.png?prompt=secret", headers=again)
    await client.get("/v1/images/7.png?steps=0")
    assert [await metric(client, count) for count in counts] == [count + 1 for count in before]
    text = (await client.get("/metrics")).text
    assert "tessera_ready 1.0" in text
    assert "secret" not in text


def test_passes_count_by_size_and_what_of_them_was_padding() -> None:
    metrics = Metrics()
    for passes in ([Pass("encode", 1, 1), Pass("draw", 3, 4)], [Pass("draw", 4, 4)]):
        metrics.stepped("tiny", 0.1, passes)
    lines = metrics.render().decode().splitlines()
    assert 'tessera_passes_total{model="tiny",size="1"} 1.0' in lines
    assert 'tessera_passes_total{model="tiny",size="4"} 2.0' in lines
    assert 'tessera_padding_evaluations_total{model="tiny"} 1.0' in lines
    assert 'tessera_pass_evaluations_sum{model="tiny"} 8.0' in lines


async def test_every_answer_has_an_id(client: httpx.AsyncClient) -> None:
    given = await client.get("/livez", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = await client.get("/nowhere", headers={"X-Request-Id": "no good\nid"})
    assert len(made.headers["x-request-id"]) == 16


async def test_the_document_and_its_page_are_served(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "unsafe" not in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="((?:docs|web)/[^"]+)"', page.text)
    assert "docs/swagger-ui-bundle.js" in named
    for name in named:
        assert (await client.get(f"/{name}")).status_code == 200, name
    assert (await client.get("/docs/redoc.standalone.js")).status_code == 404
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert "/v1/images/{seed}.{format}" in paths
    assert not [path for path in paths if path.startswith("/docs")]
