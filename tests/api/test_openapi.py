"""If these fail, /openapi.json tells a client something else than this deployment accepts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.api.auth import hash_key
from app.engine import Engine, EngineSettings
from app.main import assemble
from app.metrics import Metrics
from app.settings import Settings

Document = Mapping[str, Any]

BODY = ("/v1/images", "application/json")
GENERATIONS = ("/v1/images/generations", "application/json")
FORM = ("/v1/images/transform", "multipart/form-data")
EDITS = ("/v1/images/edits", "multipart/form-data")
VARIATIONS = ("/v1/images/variations", "multipart/form-data")
DESCRIBE = ("/v1/images/describe", "multipart/form-data")
ADDRESS = "/v1/images/{seed}.{format}"


def sent(document: Document, where: tuple[str, str]) -> dict[str, Any]:
    """The schema of a request's body."""
    path, kind = where
    schema = document["paths"][path]["post"]["requestBody"]["content"][kind]["schema"]
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def query(document: Document) -> dict[str, Any]:
    """The parameters of an image's address, by their names."""
    return {
        parameter["name"]: parameter["schema"]
        for parameter in document["paths"][ADDRESS]["get"]["parameters"]
    }


def of(*folders: Path, settings: Settings | None = None) -> Document:
    """What a service with these models says of itself. Nothing is loaded for it."""
    metrics = Metrics()
    engine = Engine(EngineSettings(models=folders), metrics)
    app = assemble(settings or Settings(), engine, metrics)
    app.state.services.images.close()
    app.state.services.uploads.close()
    return app.openapi()


async def document_of(client: httpx.AsyncClient) -> Document:
    document: Document = (await client.get("/openapi.json")).json()
    return document


async def test_the_parameters_of_the_models_are_fields(client: httpx.AsyncClient) -> None:
    document = await document_of(client)
    drawing = {"steps", "guidance", "solver_order", "temperature", "top_k", "top_p"}
    edits = {"strength", "noise"}
    tokens = {"temperature", "top_k", "top_p"}  # the gpt paints in, too, but does not vary
    for where, expected in (
        (BODY, drawing),
        (GENERATIONS, drawing),
        (FORM, drawing | edits),
        (EDITS, drawing | {"strength"}),
        (VARIATIONS, drawing - tokens | {"strength"}),
        (DESCRIBE, set[str]()),
    ):
        schema = sent(document, where)
        assert schema["additionalProperties"] is False, where
        assert (drawing | edits) & set(schema["properties"]) == expected, where
    assert (drawing | edits) & set(query(document)) == drawing


async def test_a_parameter_is_described_by_the_table_of_its_models(
    client: httpx.AsyncClient,
) -> None:
    document = await document_of(client)
    for properties in (sent(document, FORM)["properties"], query(document)):
        # From the least to the most that any model takes.
        steps = properties["steps"]
        assert (steps["type"], steps["minimum"], steps["maximum"]) == ("integer", 1, 100)
        top_k = properties["top_k"]
        assert (top_k["type"], top_k["minimum"], top_k["maximum"]) == ("integer", 0, 12)
        guidance = properties["guidance"]
        assert (guidance["type"], guidance["minimum"], guidance["maximum"]) == ("number", 0, 10)
    # In JSON, null is as if it were not there.
    steps = sent(document, BODY)["properties"]["steps"]
    assert steps["anyOf"] == [
        {"type": "integer", "minimum": 1, "maximum": 100},
        {"type": "null"},
    ]
    text = steps["description"]
    assert text.startswith("Denoising steps.")
    assert text.endswith("see /v1/models.")
    named = {each["name"]: each for each in document["paths"][ADDRESS]["get"]["parameters"]}
    assert named["solver_order"]["description"].startswith("1 is Euler's method")
    assert not named["solver_order"]["required"]
    strength = sent(document, FORM)["properties"]["strength"]
    assert (strength["minimum"], strength["maximum"]) == (0.01, 1)


def test_what_no_model_takes_is_left_out(tiny_models: dict[str, Path]) -> None:
    document = of(tiny_models["flow"])
    assert "top_k" not in sent(document, BODY)["properties"]
    assert "solver_order" in sent(document, BODY)["properties"]
    assert "/v1/images/describe" not in document["paths"]
    assert "negative_prompt" not in sent(document, BODY)["properties"]
    document = of(tiny_models["gpt"])
    assert "top_k" in sent(document, BODY)["properties"]
    assert "strength" not in sent(document, FORM)["properties"]
    assert "/v1/images/describe" in document["paths"]
    for properties in (sent(document, BODY)["properties"], query(document)):
        assert "walk" not in properties


async def test_the_limits_of_this_deployment_are_in_it(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    properties = sent(await document_of(client), BODY)["properties"]
    walk = {"type": "integer", "minimum": 2, "maximum": settings.max_walk}
    assert walk in properties["walk"]["anyOf"]
    assert properties["n"]["maximum"] == settings.max_n
    assert properties["prompt"]["maxLength"] == settings.max_prompt_characters
    assert {"type": "integer", "minimum": 1, "maximum": settings.max_size} in (
        properties["size"]["anyOf"]
    )


def test_a_size_is_a_number_or_width_x_height(tiny_models: dict[str, Path]) -> None:
    document = of(tiny_models["flow"], settings=Settings(max_size=200))
    for schema in (
        sent(document, BODY)["properties"]["size"],
        sent(document, FORM)["properties"]["size"],
        query(document)["size"],
    ):
        kinds = {each["type"]: each for each in schema["anyOf"] if each["type"] != "null"}
        assert set(kinds) == {"integer", "string"}
        assert kinds["integer"]["maximum"] == 200
        assert kinds["string"]["pattern"] == "^[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})?$"


def test_a_form_has_its_files_and_no_null(tiny_models: dict[str, Path]) -> None:
    form = sent(of(tiny_models["flow"]), FORM)
    assert form["required"] == ["image", "operation"]
    assert form["properties"]["image"]["contentMediaType"] == "application/octet-stream"
    assert '{"type": "null"}' not in str(form).replace("'", '"')


def test_a_key_is_asked_for_where_one_is_needed(tiny_models: dict[str, Path]) -> None:
    locked = Settings(
        api_keys={"ada": hash_key("a key")}, url_secret=SecretStr("a secret of some length")
    )
    document = of(tiny_models["flow"], settings=locked)
    assert document["paths"]["/v1/images"]["post"]["security"] == [{"key": []}]
    assert "security" not in document["paths"]["/livez"]["get"]
    assert "securitySchemes" not in of(tiny_models["flow"])["components"]


@pytest.mark.parametrize("path", ["/v1/status", "/v1/models", "/readyz", "/metrics"])
def test_the_routes_beside_images_are_in_it(tiny_models: dict[str, Path], path: str) -> None:
    document = of(tiny_models["flow"])
    assert "422" not in document["paths"][path]["get"]["responses"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
