"""The OpenAPI document, true to this deployment: its limits, its models' ranges, its keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from app.generation.editing.operations import EDITS
from app.settings import Settings
from model.request import Operation
from model.spec import ModelSpec, Parameter

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
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


def parameters_in(place: Literal["path", "query"], model: type[BaseModel]) -> list[Schema]:
    """The model's fields as parameters of an operation that reads its address itself."""
    return [
        {
            "name": name,
            "in": place,
            "required": place == "path",
            "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in _inline(model, "validation")["properties"].items()
    ]


@dataclass(frozen=True, slots=True)
class UploadField:
    """A file of a form."""

    name: str
    description: str
    required: bool = False


FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
PICTURES = "image/png, image/jpeg, image/webp, image/gif, image/avif"


def form_body(model: type[BaseModel], uploads: Sequence[UploadField]) -> Schema:
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


def form_or_json_body(
    model: type[BaseModel], uploads: Sequence[UploadField], files: Mapping[str, Schema]
) -> Schema:
    """The same, which may be JSON instead: with these fields for its files, the first required."""
    body = form_body(model, uploads)
    schema = _inline(model, "validation")
    schema |= {
        "properties": {**files, **schema["properties"]},
        "required": [next(iter(files)), *schema.get("required", [])],
    }
    body["requestBody"]["content"]["application/json"] = {"schema": schema}
    return body


def _never_null(field: Schema) -> Schema:
    """The same for a form, where a field is a text or not there."""
    branches = field.get("anyOf", [])
    if {"type": "null"} not in branches:
        return field
    rest = [branch for branch in branches if branch != {"type": "null"}]
    others = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    return others | (rest[0] if len(rest) == 1 else {"anyOf": rest})


def install_document(app: FastAPI, settings: Settings, specs: Iterable[ModelSpec]) -> None:
    """Has the application describe itself with what it really accepts."""
    document = app.openapi
    specs = list(specs)
    limits = _limits(settings, specs)

    def openapi() -> Schema:
        if app.openapi_schema is None:
            schema = document()
            _leave_out_framework_errors(schema)
            _add_parameters(schema, specs)
            _leave_out_what_no_model_takes(schema, specs)
            for name, field in _fields(schema):
                _narrow(field, limits.get(name, {}))
            if settings.api_keys:
                _lock(schema)
            if settings.public_url:
                schema["servers"] = [{"url": str(settings.public_url).rstrip("/")}]
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _limits(settings: Settings, specs: list[ModelSpec]) -> dict[str, Schema]:
    return {
        "n": {"maximum": settings.max_n},
        "walk": {"maximum": settings.max_walk},
        "size": {"maximum": max(settings.max_size, *(spec.sizes.longest for spec in specs))},
        "lora": {"enum": ["", *dict.fromkeys(name for spec in specs for name in spec.loras)]},
        "prompt": {"maxLength": settings.max_prompt_characters},
        "negative_prompt": {"maxLength": settings.max_prompt_characters},
    }


IMAGE_ADDRESS = "/v1/images/{seed}.{format}"

_PARAMETERS_OF: dict[str, tuple[Operation, ...]] = {
    "/v1/images": ("generate", "walk"),
    IMAGE_ADDRESS: ("generate", "walk"),
    "/v1/images/transform": tuple({spec.does: None for spec in EDITS.values()}),
    "/v1/images/generations": ("generate",),
    "/v1/images/edits": ("edit", "vary", "inpaint"),
    "/v1/images/variations": ("vary",),
}
"""The operations of each route whose further fields are parameters of models."""


def _add_parameters(schema: Schema, specs: list[ModelSpec]) -> None:
    """What the loaded models take, as fields of bodies and of addresses."""
    for path, operation in _operations(schema):
        found = _parameters(specs, _PARAMETERS_OF.get(path, ()))
        if path == IMAGE_ADDRESS:
            operation["parameters"] += [
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "description": field.pop("description"),
                    "schema": field,
                }
                for name, field in found.items()
            ]
        for kind, body in _bodies_of(schema, operation):
            body["additionalProperties"] = False
            body["properties"] |= (
                found
                if kind != "application/json"
                else {name: _or_null(field) for name, field in found.items()}
            )


def _or_null(field: Schema) -> Schema:
    """The same in JSON, where null is as if it were not there."""
    number = {name: value for name, value in field.items() if name != "description"}
    return {"anyOf": [number, {"type": "null"}], "description": field["description"]}


def _parameters(specs: list[ModelSpec], operations: Sequence[Operation]) -> dict[str, Schema]:
    """Each parameter of any model, from the least to the most that any takes."""
    found: dict[str, list[Parameter]] = {}
    unlike: dict[str, str] = {}  # where a default depends on the operation
    for spec in specs:
        for own in spec.own_parameters:
            parameter = own.among(operations)
            if parameter.operations:
                found.setdefault(parameter.name, []).append(parameter)
                if parameter.defaults:
                    text = f" {spec.id}: {parameter.default_text} by default."
                    unlike[parameter.name] = unlike.get(parameter.name, "") + text
    return {
        name: {
            "type": "integer" if all(parameter.whole for parameter in parameters) else "number",
            "minimum": _plain(min(parameter.minimum for parameter in parameters)),
            "maximum": _plain(max(parameter.maximum for parameter in parameters)),
            "description": " ".join(
                dict.fromkeys(parameter.description for parameter in parameters)
            )
            + " Each model has its default and its range, see /v1/models."
            + unlike.get(name, ""),
        }
        for name, parameters in found.items()
    }


def _plain(value: float) -> float:
    """1 rather than 1.0."""
    return int(value) if value == int(value) else value


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
    for _, operation in _operations(schema):
        for _, body in _bodies_of(schema, operation):
            yield body


def _bodies_of(schema: Schema, operation: Schema) -> Iterator[tuple[str, Schema]]:
    """What one takes: each media type, and its schema."""
    components = schema["components"]["schemas"]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        reference = content["schema"].get("$ref", "").rpartition("/")[2]
        yield kind, components.get(reference, content["schema"])


def _narrow(field: Schema, limits: Schema) -> None:
    numeric = "maximum" in limits
    for branch in (field, *field.get("anyOf", ())):
        if branch.get("type") in (("integer", "number") if numeric else ("string",)):
            branch.update(limits)


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
        *(() if any(spec.negative_prompt for spec in specs) else ("negative_prompt",)),
        *(() if any(spec.loras for spec in specs) else ("lora",)),
        *(() if any("walk" in spec.operations for spec in specs) else ("walk",)),
    ]
    for _, operation in _operations(schema):
        if "parameters" in operation:
            operation["parameters"] = [
                parameter
                for parameter in operation["parameters"]
                if parameter["name"] not in unknown
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
