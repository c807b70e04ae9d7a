"""Whether two systems draw the same: what they answer, decoded and hashed."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from bench.load import LoadRequest, Send

PNG = b"\x89PNG"


def samples(steps: int) -> tuple[LoadRequest, ...]:
    """Requests whose answers are compared: a picture, and several with others among them."""
    prompt = "red apple, fluent 3d style"
    return (LoadRequest(prompt, 7, steps, n=1), LoadRequest(prompt, 8, steps, n=5))


async def fingerprint(send: Send, steps: int) -> str:
    """Equal for equal pixels of all `samples`. Raises ``httpx.HTTPError``."""
    total = hashlib.sha256()
    for request in samples(steps):
        found = list(files(await send(request)))
        total.update(f"{len(found)} files ".encode())
        for file in found:
            with Image.open(BytesIO(file)) as image:
                total.update(f"{image.mode} {image.size} ".encode() + image.tobytes())
    return total.hexdigest()[:12]


def files(answer: bytes) -> Iterator[bytes]:
    """The PNG files in an answer: it is one itself, or a JSON list of them."""
    if answer.startswith(PNG):
        yield answer
        return
    page = json.loads(answer)
    for each in page["images"] if isinstance(page, dict) else page:  # Tessera's page, a peer's
        yield b64decode(each["b64_json"] if isinstance(each, dict) else each)
