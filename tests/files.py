"""What a file that the service wrote says of itself."""

from __future__ import annotations

import json
from dataclasses import fields
from io import BytesIO

from PIL import ExifTags, Image

from app.generation.output import Metadata

_FIELDS = {field.name for field in fields(Metadata)}


def read_metadata(file: bytes) -> Metadata | None:
    """What `encode` wrote, if it did."""
    with Image.open(BytesIO(file)) as image:
        image.load()
        if image.format == "PNG":
            found = {key: value for key, value in image.info.items() if key in _FIELDS}
        else:
            text = str(image.getexif().get(ExifTags.Base.ImageDescription, "{}"))
            found = json.loads(text) if text.startswith("{") else {}
    if set(found) | {"operation"} != _FIELDS:
        return None
    return Metadata(
        prompt=str(found["prompt"]),
        seed=int(found["seed"]),
        model=str(found["model"]),
        numerics=str(found["numerics"]),
        operation=str(found.get("operation", "generate")),
    )
