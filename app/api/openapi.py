"""The OpenAPI document, true to this deployment: its limits, its models' ranges, its keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from app.settings import Settings
from model.protocol import ModelSpec, Range

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
TOKEN_FIELDS = ("temperature", "top_k", "top_p")
"""What only models that draw tokens take; fields of `TokenSampling` and of `TokenRanges`."""

_FRAMEWORK = ("HTTPValidationError", "ValidationError")  # FastAPI's own error shape, never sent


def event_stream(events: Mapping[str, type[BaseModel]]) -> Schema:
    """The content of ``text/event-stream``: each event by its name, with its data.

    Models that theirs refer to must be part of another answer, which puts them in the document.
    """
    return {
        "itemSchema": {
            "oneOf": [
                {
                    "type": "object",
                    "description": model.__doc__,
                    "required": ["event", "data"],
                    "properties": {
                        "event": {"const": name},
                        "data": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": _inline(model, "serialization"),
                        },
                    },
                }
                for name, model in events.items()
            ]
        }
    }


def query_parameters(model: type[BaseModel]) -> list[Schema]:
    """The model's fields as parameters of an operation that reads its query itself."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in _inline(model, "validation")["properties"].items()
    ]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a form."""

    name: str
    description: str
    required: bool = False


FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
PICTURES = "image/png, image/jpeg, image/webp, image/gif"


def form_body(model: type[BaseModel], uploads: Sequence[Upload]) -> Schema:
    """An operation whose body is a form that it reads itself."""
    schema = _inline(model, "validation")
    files = {each.name: {**FILE, "description": each.description} for each in uploads}
    required = [each.name for each in uploads if each.required] + schema.get("required", [])
    texts = {
        name: _never_null(field)
        for name, field in schema["properties"].items()
        if field.get("type") != "null"  # is refused, whatever is said
    }
    schema |= {"properties": files | texts, "required": required}
    encoding = {each.name: {"contentType": PICTURES} for each in uploads}
    content = {"multipart/form-data": {"schema": schema, "encoding": encoding}}
    return {"requestBody": {"required": True, "content": content}}


def _never_null(field: Schema) -> Schema:
    """The same for a form, where a field is a text or not there."""
    branches = field.get("anyOf", [])
    if {"type": "null"} not in branches:
        return field
    rest = [branch for branch in branches if branch != {"type": "null"}]
    others = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    return others | (rest[0] if len(rest) == 1 else {"anyOf": rest})


def install(app: FastAPI, settings: Settings, specs: Iterable[ModelSpec]) -> None:
    """Has the application describe itself with what it really accepts."""
    document = app.openapi
    specs = list(specs)
    limits = _limits(settings, specs)

    def openapi() -> Schema:
        if app.openapi_schema is None:
            schema = document()
            _leave_out_framework_errors(schema)
            _leave_out_what_no_model_takes(schema, specs)
            for name, field in _fields(schema):
                _narrow(field, limits.get(name, {}))
            if settings.api_keys:
                _lock(schema)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _limits(settings: Settings, specs: list[ModelSpec]) -> dict[str, Schema]:
    return {
        "n": {"maximum": settings.max_n},
        "walk": {"maximum": settings.max_walk},
        "size": {"maximum": settings.max_size},
        "prompt": {"maxLength": settings.max_prompt_characters},
        "steps": _between([spec.steps for spec in specs], int),
        "guidance": _between([spec.guidance for spec in specs], float),
        "top_k": _between([spec.tokens.top_k for spec in specs if spec.tokens], int),
    }


def _between(ranges: list[Range], kind: type[int | float]) -> Schema:
    """From the least to the most that any model takes."""
    if not ranges:
        return {}
    return {
        "minimum": kind(min(one.low for one in ranges)),
        "maximum": kind(max(one.high for one in ranges)),
    }


def _operations(schema: Schema) -> Iterator[tuple[str, Schema]]:
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            yield path, operation


def _fields(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """What clients send: every parameter, and every property of a request's body."""
    for _, operation in _operations(schema):
        for parameter in operation.get("parameters", ()):
            yield parameter["name"], parameter["schema"]
    for body in _bodies(schema):
        yield from body.get("properties", {}).items()


def _bodies(schema: Schema) -> Iterator[Schema]:
    """Of all requests."""
    components = schema["components"]["schemas"]
    for _, operation in _operations(schema):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            reference = content["schema"].get("$ref", "").rpartition("/")[2]
            yield components.get(reference, content["schema"])


def _narrow(field: Schema, limits: Schema) -> None:
    numeric = "maximum" in limits
    for branch in (field, *field.get("anyOf", ())):
        if branch.get("type") in (("integer", "number") if numeric else ("string",)):
            branch.update(limits)
    if "minimum" in limits and "examples" in field:
        low, high = limits["minimum"], limits["maximum"]
        field["examples"] = [each for each in field["examples"] if low <= each <= high]


def _leave_out_framework_errors(schema: Schema) -> None:
    for _, operation in _operations(schema):
        operation["responses"].pop("422", None)
    for name in _FRAMEWORK:
        schema["components"]["schemas"].pop(name, None)


def _leave_out_what_no_model_takes(schema: Schema, specs: list[ModelSpec]) -> None:
    """Fields and a route that this deployment would only refuse."""
    if not any("describe" in spec.operations for spec in specs):
        schema["paths"].pop("/v1/images/describe", None)
    unknown = [
        *(() if any(spec.tokens for spec in specs) else TOKEN_FIELDS),
        *(() if any("walk" in spec.operations for spec in specs) else ("walk",)),
    ]
    for _, operation in _operations(schema):
        if "parameters" in operation:
            operation["parameters"] = [
                each for each in operation["parameters"] if each["name"] not in unknown
            ]
    for body in _bodies(schema):
        for name in unknown:
            body.get("properties", {}).pop(name, None)


def _lock(schema: Schema) -> None:
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operation in _operations(schema):
        if path.startswith("/v1/"):
            operation["security"] = [{"key": []}]


def _inline(model: type[BaseModel], mode: JsonSchemaMode) -> Schema:
    schema = model.model_json_schema(ref_template=_REFERENCE, mode=mode)
    schema.pop("$defs", None)
    return schema
