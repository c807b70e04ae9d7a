"""OpenAI's edits in JSON: the fields of the form, with the pictures in base64.

``images`` is a list of ``{"image_url": "data:image/png;base64,…"}``, ``mask`` one of these.
Gateways also send ``image``, and the base64 alone. Addresses are never fetched, as they could be
anybody's.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.api.errors import ApiError, invalid, of_body

MOST_VALUES = 100_000
"""Commas and brackets of a body: each may stand for a value that takes a hundred times its byte."""

FILES = {"images": "image", "image": "image", "image[]": "image", "mask": "mask"}
"""The fields that hold pictures, and those of the form that they stand for."""

_KEYS = ("image_url", "url", "b64_json", "data")


@dataclass(frozen=True, slots=True)
class JsonForm:
    """What was sent."""

    fields: Mapping[str, Any]
    files: Mapping[str, tuple[bytes, ...]]


def read_json(body: bytes | bytearray) -> JsonForm:
    """Takes a while for a large body. Raises `ApiError`."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ApiError(400, "the body has too many values", code="invalid_json")
    try:
        found = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise of_body(error) from error
    if not isinstance(found, dict):
        raise ApiError(400, "a JSON object is needed", code="invalid_body")
    files: dict[str, tuple[bytes, ...]] = {}
    for name, field in FILES.items():
        given = found.pop(name, None)
        if given is None:
            continue
        if field in files:
            raise invalid(name, "is given beside another field for the same")
        if not isinstance(given, list):
            files[field] = (_decoded(name, given),)
        elif given:
            places = [name if len(given) == 1 else f"{name}.{k}" for k in range(len(given))]
            files[field] = tuple(map(_decoded, places, given))
    return JsonForm(found, files)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is given more than once")
    return values


def _decoded(name: str, given: object) -> bytes:
    """The file that a value holds. Raises `ApiError`."""
    if isinstance(given, dict):
        if given.get("file_id") is not None:
            raise invalid(name, "no files are kept here to be named by file_id; send a data: URL")
        known = [key for key in _KEYS if given.get(key) is not None]
        if len(known) != 1 or given.keys() - {*_KEYS, "file_id"}:
            raise invalid(name, 'should be an object with "image_url", a data: URL')
        given = given[known[0]]
        if isinstance(given, dict):
            given = given.get("url")
    if not isinstance(given, str):
        raise invalid(name, "should be a data: URL, or base64")
    if given[:8].lower().startswith(("http:", "https:", "file:", "ftp:", "gs:", "s3:")):
        raise invalid(name, "addresses are not fetched; send the picture as a data: URL")
    if given[:5].lower() == "data:":
        head, comma, given = given.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise invalid(
                name, "is a data: URL without base64: data:image/png;base64,… is accepted"
            )
    try:
        text = given.encode("ascii").translate(_STANDARD, b" \t\r\n")
        return base64.b64decode(
            text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4), validate=True
        )
    except (UnicodeEncodeError, binascii.Error):
        raise invalid(name, "is not base64") from None


_STANDARD = bytes.maketrans(b"-_", b"+/")
