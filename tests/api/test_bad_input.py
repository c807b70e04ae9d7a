"""If these fail, a mistake is answered with a picture, a crash, or words that do not help.

What `app.generation.resolve` refuses is tested there; here, that it is a 400 which names the field.
"""

from __future__ import annotations

import json

import httpx
import pytest

from tests.api.application import error

JSON = {"Content-Type": "application/json"}

FIELDS = (
    "prompt, negative_prompt, model, lora, size, quality, metadata, walk, background, seed, n, "
    "format, previews, steps, guidance, solver_order, strength, noise, temperature, top_k, top_p"
)
"""Of POST /v1/images, and the parameters of the models that are loaded."""


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"prompt": 7}, "prompt", "should be a valid string; 7 was given"),
        ({"prompt": "a" * 5001}, "prompt", "has 5001 characters, at most 5000 are accepted"),
        ({"n": 0}, "n", "should be greater than or equal to 1; 0 was given"),
        ({"n": 11}, "n", "11 was given, at most 10 are accepted"),
        ({"n": "2"}, "n", "should be a valid integer; '2' was given"),
        ({"n": True}, "n", "should be a valid integer; True was given"),
        ({"steps": 0}, "steps", "0 was given, 1 to 100 is accepted"),
        ({"steps": 2.5}, "steps", "2.5 was given, a whole number, 1 to 100, is accepted"),
        ({"steps": "4"}, "steps", "'4' was given, a number is accepted"),
        ({"steps": True}, "steps", "True was given, a number is accepted"),
        ({"steps": [4]}, "steps", "[4] was given, a number is accepted"),
        ({"guidance": 10.5}, "guidance", "10.5 was given, 0 to 10 is accepted"),
        ({"walk": 1}, "walk", "should be greater than or equal to 2; 1 was given"),
        ({"size": 1025}, "size", "1025 was given, at most 1024 is accepted along each side"),
        (
            {"size": "64x48"},
            "size",
            "64x48 was given, tiny draws 16x16, resampled for other squares",
        ),
        *(
            ({"size": size}, "size", 'pixels such as 128, or width x height such as "128x96"; ')
            for size in (0, -1, 1.5, True, [64, 64], "64x", "x64", "64x64x64", "0x64", "٦٤", "")
        ),
        ({"format": "gif"}, "format", "should be 'png', 'webp' or 'jpeg'; 'gif' was given"),
        ({"background": "blue"}, "background", '\'blue\' was given, accepted: "white", "transp'),
        ({"background": None}, "background", "should be a valid string; None was given"),
        ({"seed": -1}, "seed", "should be an integer from 0 to 9007199254740991 or a string of"),
        ({"seed": 2**53}, "seed", "9007199254740992 was given"),
        ({"seed": 1.5}, "seed", "1.5 was given"),
        ({"seed": ""}, "seed", "string of 1 to 256 characters; '' was given"),
        ({"quality": 101}, "quality", "should be less than or equal to 100; 101 was given"),
        ({"previews": 1}, "previews", "should be a valid boolean; 1 was given"),
        ({"model": "tiny-gan", "walk": 4, "n": 2}, "n", "2 was given, a walk is one picture"),
    ],
)
async def test_a_bad_field_is_named(
    client: httpx.AsyncClient, body: dict[str, object], param: str, says: str
) -> None:
    answer = await client.post("/v1/images", json=body)
    found = error(answer)
    assert answer.status_code == 400
    assert (found["type"], found["param"]) == ("invalid_request_error", param)
    assert found["code"] == "invalid_value"
    assert found["message"].startswith(f"{param}: ")
    assert says in found["message"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("value", ["apple", 7, None, {"a": 1}, [[]]])
async def test_an_unknown_field_is_one_whatever_its_value(
    client: httpx.AsyncClient, value: object
) -> None:
    answer = await client.post("/v1/images", json={"promt": value})
    assert answer.status_code == 400
    assert error(answer) == {
        "message": f"promt: there is no such field; there are {FIELDS}",
        "type": "invalid_request_error",
        "param": "promt",
        "code": "unknown_field",
    }


async def test_a_name_that_nobody_could_read_is_cut_short(client: httpx.AsyncClient) -> None:
    for name, shown in (("\ud800", "?"), ("x" * 5000, "x" * 80), ("\0", "\0")):
        body = json.dumps({name: 1})  # in ASCII, with escapes
        answer = await client.post("/v1/images", content=body, headers=JSON)
        found = error(answer)
        assert (answer.status_code, found["code"]) == (400, "unknown_field")
        assert found["param"] == shown
        assert len(found["message"]) < 500


@pytest.mark.parametrize(
    ("model", "field", "message"),
    [
        ("tiny", "top_k", "means nothing to tiny, which takes steps, guidance, solver_order"),
        (
            "tiny-gpt",
            "solver_order",
            "means nothing to tiny-gpt, which takes steps, guidance, temperature, top_k, top_p",
        ),
        ("tiny-gan", "temperature", "means nothing to tiny-gan, which takes steps, guidance"),
        ("tiny", "strength", "means nothing to generate, only to inpaint, vary"),
        ("tiny", "noise", "means nothing to generate, only to denoise"),
    ],
)
async def test_a_parameter_of_another_model_is_no_unknown_field(
    client: httpx.AsyncClient, model: str, field: str, message: str
) -> None:
    posted = await client.post("/v1/images", json={"model": model, field: 1})
    fetched = await client.get("/v1/images/7.png", params={"model": model, field: 1})
    for answer in (posted, fetched):
        assert answer.status_code == 400
        assert error(answer) == {
            "message": f"{field}: {message}",
            "type": "invalid_request_error",
            "param": field,
            "code": "invalid_value",
        }


async def test_a_prompt_of_too_many_tokens_has_a_code_of_its_own(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/images", json={"prompt": "z9 " * 40})
    assert (answer.status_code, error(answer)["code"]) == (400, "prompt_too_long")
    assert "tokens, tiny takes at most 48" in error(answer)["message"]


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
        (b'{"guidance": ' + b"9" * 400 + b"}", "application/json"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "application/json"),
        (b"[" * 500_000, "application/json"),
        (b'{"steps": ' + b"[" * 500_000, "application/json"),
        (b'{"prompt": "apple"}', "text/plain"),
        (b"prompt=apple", "application/x-www-form-urlencoded"),
    ],
)
async def test_a_body_that_is_no_request_is_refused(
    client: httpx.AsyncClient, content: bytes, kind: str
) -> None:
    answer = await client.post("/v1/images", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("address", "status", "param"),
    [
        ("/v1/images/7.png?stepz=3", 400, "stepz"),
        ("/v1/images/7.png?stepz=three", 400, "stepz"),
        ("/v1/images/7.png?steps=3&steps=4", 400, "steps"),
        ("/v1/images/7.png?steps=many", 400, "steps"),
        ("/v1/images/7.png?steps=", 400, "steps"),
        ("/v1/images/7.png?steps=true", 400, "steps"),
        ("/v1/images/7.png?steps=0", 400, "steps"),
        ("/v1/images/7.png?guidance=nan", 400, "guidance"),
        ("/v1/images/7.png?size=64x48", 400, "size"),
        ("/v1/images/7.png?size=0", 400, "size"),
        ("/v1/images/7.png?seed=8", 400, "seed"),
        ("/v1/images/7.png?n=2", 400, "n"),
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
    assert (answer.status_code, error(answer)["param"]) == (status, param)


async def test_an_unknown_name_in_an_address_is_answered_with_those_that_there_are(
    client: httpx.AsyncClient,
) -> None:
    found = error(await client.get("/v1/images/7.png?stepz=three"))
    assert found["code"] == "unknown_field"
    assert found["message"] == (
        "stepz: there is no such field; there are prompt, negative_prompt, model, lora, size, "
        "quality, metadata, walk, background, numerics, expires, signature, steps, guidance, "
        "solver_order, strength, noise, temperature, top_k, top_p"
    )


async def test_a_wrong_method_names_the_right_ones(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/images", json={})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert error(answer)["message"] == "this address accepts POST only"


async def test_every_method_of_an_address_is_named(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/v1/images/7.png")).headers["allow"] == "GET, HEAD"


async def test_contradictions_are_not_acceptable(client: httpx.AsyncClient) -> None:
    body = {"seed": 1, "format": "png"}
    answer = await client.post("/v1/images", json=body, headers={"Accept": "image/webp"})
    assert answer.status_code == 406
    assert "image/png, application/json, text/event-stream" in error(answer)["message"]
