"""`tessera sign`."""

from __future__ import annotations

import time

import pytest

from app.api.signing import Signer
from tests.cli.conftest import Refusal, Run

SECRET = "a-secret-of-the-right-length-0123456789"


def test_a_signed_address_is_one_that_the_service_accepts(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_URL_SECRET", SECRET)
    result = run(["sign", "/v1/images/7.png?prompt=red%20apple", "--hours", "1"])
    path, _, query = result.stdout.strip().partition("?")
    expiry = Signer(SECRET).expiry(path, query)
    assert expiry is not None
    assert expiry > time.time() + 3500


def test_without_a_secret_nothing_is_signed(
    refused: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_URL_SECRET", "")
    assert "set TESSERA_URL_SECRET" in refused("sign /v1/images/7.png")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("hello", "ADDRESS should be that of an image: /v1/images/SEED.FORMAT"),
        ("/v1/images/transform", "ADDRESS should be that of an image"),
        ("/v1/images/7.png#top", "ADDRESS should be that of an image"),
        ("/v1/images/7.png?expires=5", "ADDRESS is signed already"),
        ("/v1/images/7.png --hours inf", "--hours inf was given, at most"),
        ("/v1/images/7.png --hours 1e300", "--hours 1e+300 was given, at most"),
    ],
)
def test_what_is_no_address_is_not_signed(
    refused: Refusal, monkeypatch: pytest.MonkeyPatch, arguments: str, says: str
) -> None:
    monkeypatch.setenv("TESSERA_URL_SECRET", "0123456789abcdef")
    assert refused(f"sign {arguments}").startswith(says)


def test_an_address_with_a_host_is_signed_as_its_path(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_URL_SECRET", "0123456789abcdef")
    host, path = "https://pictures.example", "/v1/images/7.png?prompt=%5Bred%5D"
    signed = run(["sign", host + path]).stdout.strip()
    assert signed.startswith(f"{host}{path}&expires=")
    _, query = signed.removeprefix(host).split("?")
    assert Signer("0123456789abcdef").expiry("/v1/images/7.png", query) is not None
