"""Clients that ask for images in every way, and notice what is lost or wrong."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class Outcome:
    """What the requests of the long test came to."""

    answered: int = 0
    wrong: int = 0
    streams_begun_again: int = 0


def request(k: int) -> tuple[str, dict[str, Any]]:
    """Images by address, a third of them repeats; bodies; streams."""
    body = {"prompt": "red apple", "seed": k, "steps": 20 + k % 7}
    match k % 3:
        case 0:
            return "address", {**body, "seed": k // 6, "steps": 20}
        case 1:
            return "post", body
        case _:
            return "stream", {**body, "n": 2}


async def ask(http: httpx.AsyncClient, kind: str, body: dict[str, Any], seen: Outcome) -> list[str]:
    """The images in base64, once the request is answered. A failure is an exception."""
    if kind == "address":
        query = {name: value for name, value in body.items() if name != "seed"}
        answer = await http.get(f"/v1/images/{body['seed']}.png", params=query)
        assert answer.status_code == 200, answer.text
        return [base64.b64encode(answer.content).decode()]
    if kind == "post":
        answer = await http.post("/v1/images", json=body)
        assert answer.status_code == 200, answer.text
        return [base64.b64encode(answer.content).decode()]
    # A stream that has begun cannot be given to another replica: one that ends without `done` is
    # asked for again, as every client of a stream does.
    while True:
        try:
            async with http.stream(
                "POST", "/v1/images", json=body, headers={"Accept": "text/event-stream"}
            ) as stream:
                assert stream.status_code == 200, await stream.aread()
                images: dict[int, str] = {}
                name = ""
                async for line in stream.aiter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: ") and name == "image":
                        image = json.loads(line.removeprefix("data: "))
                        images[image["index"]] = image["b64_json"]
                    if name == "done":
                        return [images[index] for index in sorted(images)]
        except httpx.RemoteProtocolError:
            pass  # cut off
        seen.streams_begun_again += 1
