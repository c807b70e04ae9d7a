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
