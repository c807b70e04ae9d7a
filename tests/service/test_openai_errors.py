"""Every kind of error that the official client knows, out of a real service. If these fail,
programs written for the OpenAI API catch the wrong exception, wait too long, or try in vain.

Not among them: ConflictError and UnprocessableEntityError, as nothing here is answered 409 or 422.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable

import httpx
import openai
import pytest

from tests.service.running import Service, Start, official


@pytest.mark.parametrize(
    ("ask", "param", "says"),
    [
        (lambda c: c.images.generate(prompt="a", size="1024x768"), "size", "for other squares"),
        (lambda c: c.images.generate(prompt="a", size="1024x1536"), "size", "at most 1024"),
        (lambda c: c.images.generate(prompt="a", size="2048x2048"), "size", "at most 1024"),
        (lambda c: c.images.generate(prompt="a", style="bold"), "style", "'vivid' or 'natural'"),
        (lambda c: c.images.generate(prompt="a", output_format="gif"), "output_format", "'png'"),
        (lambda c: c.images.generate(prompt="a", frame_count=2), "frame_count", "do not move"),
        (lambda c: c.images.generate(prompt="a", n=11), "n", "at most 10"),
        (lambda c: c.images.generate(prompt="a" * 2000), "prompt", "at most 48"),
        (
            lambda c: c.images.generate(prompt="a", output_format="jpeg", background="transparent"),
            "background",
            "png and webp can",
        ),
        (lambda c: c.images.generate(prompt="a", extra_body={"sed": 1}), "sed", "no such field"),
        (
            lambda c: c.images.generate(prompt="a", response_format="url", stream=True),
            "response_format",
            "b64_json only",
        ),
    ],
)
def test_bad_requests(
    client: openai.OpenAI, ask: Callable[[openai.OpenAI], object], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert says in str(refused.value)
    assert refused.value.request_id


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.images.generate(prompt="a", model="gpt-image-2")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/images/generation", 404, "not_found"), ("/images/generations", 405, "method_not_allowed")],
)
def test_a_wrong_address(client: openai.OpenAI, path: str, status: int, code: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.get(path, cast_to=httpx.Response)
    assert (refused.value.status_code, refused.value.code) == (status, code)


def test_what_is_too_large_or_too_much(start: Start) -> None:
    settings = {"MAX_BODY_BYTES": "1024", "MAX_ROWS_WAITING": "2"}
    with start(**settings) as service, official(service.await_ready()) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            client.images.generate(prompt="a" * 2000)
        assert (refused.value.status_code, refused.value.code) == (413, "body_too_large")
        assert client.images.generate(prompt="a").data, "the connection must be usable again"
        with pytest.raises(openai.InternalServerError) as full:
            client.images.generate(prompt="a", n=10)
        assert (full.value.status_code, full.value.code) == (503, "queue_full")
        assert int(full.value.response.headers["retry-after"]) >= 1


def test_a_wrong_key_and_a_wrong_signature(start: Start) -> None:
    keys = f"ada={hashlib.sha256(b'open sesame').hexdigest()}"
    with start(API_KEYS=keys, URL_SECRET="a secret that is long enough") as service:
        service.await_ready()
        with (
            official(service, api_key="open barley") as stranger,
            pytest.raises(openai.AuthenticationError) as unknown,
        ):
            stranger.images.generate(prompt="a")
        assert unknown.value.code == "invalid_api_key"
        assert unknown.value.type == "authentication_error"
        with official(service, api_key="open sesame") as ada:
            answer = ada.images.generate(prompt="a", response_format="url")
            assert answer.data is not None
            signed = answer.data[0].url
            assert signed is not None
            assert httpx.get(signed).status_code == 200
            with pytest.raises(openai.PermissionDeniedError) as forged:
                ada.get(signed.replace("prompt=a", "prompt=b"), cast_to=httpx.Response)
            assert forged.value.code == "invalid_signature"
            assert forged.value.type == "permission_error"


def test_a_rate_limit_and_how_long_to_wait(start: Start) -> None:
    with start(RATE_LIMIT="50/3 seconds") as service, official(service.await_ready()) as client:
        client.images.generate(prompt="a", n=5)  # guided, 4 steps: 40 evaluations
        with pytest.raises(openai.RateLimitError) as limited:
            client.images.generate(prompt="a", n=5)
        assert (limited.value.code, limited.value.type) == ("rate_limited", "rate_limit_error")
        assert int(limited.value.response.headers["retry-after"]) >= 1
        # The client waits as long as it is told, once, and then gets its pictures.
        assert client.with_options(max_retries=1).images.generate(prompt="a", n=5).data
        # What can never be granted is not tried again.
        with pytest.raises(openai.RateLimitError) as hopeless:
            client.with_options(max_retries=3).images.generate(prompt="a", n=10)
        assert hopeless.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_a_deadline_before_and_within_a_stream(start: Start) -> None:
    with start(REQUEST_TIMEOUT="0.02") as service, official(service.await_ready()) as client:
        again = client.with_options(max_retries=3)
        with pytest.raises(openai.InternalServerError) as late:
            again.images.generate(prompt="a", extra_body={"steps": 100})
        assert (late.value.status_code, late.value.code) == (504, "deadline_exceeded")
        assert late.value.response.request.headers["x-stainless-retry-count"] == "0"
        stream = client.images.generate(prompt="a", stream=True, extra_body={"steps": 100})
        with pytest.raises(openai.APIError) as broken:
            list(stream)
        assert broken.value.code == "deadline_exceeded"
        assert "0.02" in broken.value.message


def test_nobody_there_and_nobody_answering(client: openai.OpenAI, service: Service) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.01).images.generate(prompt="a", n=10)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    nowhere = client.with_options(base_url=f"http://127.0.0.1:{port}/v1")
    with pytest.raises(openai.APIConnectionError) as alone:
        nowhere.images.generate(prompt="a")
    assert not isinstance(alone.value, openai.APITimeoutError)
