"""If these fail, a mistake is answered with a picture, a crash, or words that do not help."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"promt": "apple"}, "promt", "there is no such field; there are prompt, model, steps"),
        ({"prompt": 7}, "prompt", "valid string; 7 was given"),
        ({"prompt": "a" * 1001}, "prompt", "has 1001 characters, at most 1000 are accepted"),
        ({"prompt": "z9 " * 40}, "prompt", "tokens, tiny takes at most 48"),
        ({"n": 0}, "n", "greater than or equal to 1; 0 was given"),
        ({"n": 11}, "n", "11 was given, at most 10 are accepted"),
        ({"n": "2"}, "n", "valid integer; '2' was given"),
        ({"n": True}, "n", "valid integer; True was given"),
        ({"steps": 0}, "steps", "greater than or equal to 1; 0 was given"),
        ({"steps": 101}, "steps", "101 was given, tiny takes 1 to 100"),
        ({"guidance": 10.5}, "guidance", "10.5 was given, tiny takes 0 to 10"),
        ({"size": 1025}, "size", "1025 was given, at most 1024 is accepted"),
        ({"size": "64x64"}, "size", "valid integer; '64x64' was given"),
        ({"format": "gif"}, "format", "'png', 'webp' or 'jpeg'; 'gif' was given"),
        ({"background": "blue"}, "background", "#ff8800 or #f80; 'blue' was given"),
        ({"format": "jpeg", "background": "transparent"}, "background", "png and webp can"),
        ({"seed": -1}, "seed", "integer from 0 to 9007199254740991"),
        ({"seed": 2**53}, "seed", "9007199254740992 was given"),
        ({"seed": 1.5}, "seed", "1.5 was given"),
        ({"seed": ""}, "seed", "string of 1 to 256 characters"),
        ({"quality": 101}, "quality", "less than or equal to 100"),
    ],
)
async def test_a_bad_field_is_named(
    client: httpx.AsyncClient, body: dict[str, object], param: str, says: str
) -> None:
    answer = await client.post("/v1/images", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"].startswith(f"{param}: ")
    assert says in error["message"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[1]", "application/json"),
        (b"null", "application/json"),
        (b'"\xff"', "application/json"),
        (b'{"prompt": "\\ud800"}', "application/json"),
        (b'{"seed": "\\ud800"}', "application/json"),
        (b'{"model": "\\ud800"}', "application/json"),
        (b'{"\\ud800": 1}', "application/json"),
        (b'{"guidance": NaN}', "application/json"),
        (b'{"guidance": 1e999}', "application/json"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "application/json"),
        (b"[" * 500_000, "application/json"),
        (b'{"prompt": "apple"}', "text/plain"),
        (b"prompt=apple", "application/x-www-form-urlencoded"),
    ],
)
async def test_a_body_that_is_no_request_is_refused(
    client: httpx.AsyncClient, content: bytes, kind: str
) -> None:
    answer = await client.post("/v1/images", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("address", "status", "param"),
    [
        ("/v1/images/7.png?stepz=3", 400, "stepz"),
        ("/v1/images/7.png?steps=3&steps=4", 400, "steps"),
        ("/v1/images/7.png?steps=many", 400, "steps"),
        ("/v1/images/7.png?steps=0", 400, "steps"),
        ("/v1/images/7.png?seed=8", 400, "seed"),
        ("/v1/images/7.png?background=", 400, "background"),
        ("/v1/images/7.gif", 400, "format"),
        ("/v1/images/.png", 400, "seed"),
        ("/v1/images/%ff.png", 400, None),
        ("/v1/images/7.png?prompt=%ff", 400, None),
        (f"/v1/images/{'a' * 257}.png", 400, "seed"),
        ("/v1/images/7", 404, None),
        ("/v1/images/7.png?model=other", 404, "model"),
        ("/v1/images/7.png?model=tiny@012", 400, "model"),
        ("/v1/models/other", 404, "model"),
        ("/nowhere", 404, None),
    ],
)
async def test_a_bad_address_is_refused(
    client: httpx.AsyncClient, address: str, status: int, param: str | None
) -> None:
    answer = await client.get(address)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


async def test_a_wrong_method_names_the_right_ones(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/images", json={})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["error"]["message"] == "this address accepts POST only"


async def test_every_method_of_an_address_is_named(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/v1/images/7.png")).headers["allow"] == "GET, HEAD"


async def test_contradictions_are_not_acceptable(client: httpx.AsyncClient) -> None:
    body = {"seed": 1, "format": "png"}
    answer = await client.post("/v1/images", json=body, headers={"Accept": "image/webp"})
    assert answer.status_code == 406
    assert "image/png, application/json, text/event-stream" in answer.json()["error"]["message"]
