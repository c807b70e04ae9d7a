"""If these fail, a log cannot be read by machines, or keeps what it must not."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from app.api.auth import hash_key
from app.logs import JsonLines, TextLines
from tests.service.running import Service, Start


def ask(service: Service) -> None:
    answer = httpx.post(
        f"{service.url}/v1/images",
        json={"prompt": "a private matter", "seed": "somebody"},
        headers={"X-Request-Id": "request-1", "Authorization": "Bearer the-key-itself"},
    )
    assert answer.status_code == 200


def lines(service: Service) -> list[dict[str, object]]:
    service.await_log("request-1")
    return [json.loads(line) for line in service.log.splitlines()]


def test_json_lines_have_the_request_id_and_no_prompt(start: Start) -> None:
    with start(LOG_FORMAT="json", API_KEYS=f"ada={hash_key('the-key-itself')}") as service:
        service.await_ready()
        ask(service)
        (line,) = [line for line in lines(service) if line.get("request_id") == "request-1"]
        assert line["message"] == "POST /v1/images"
        assert (line["status"], line["outcome"], line["key"]) == (200, "ok", "ada")
        for secret in ("private", "somebody", "the-key-itself"):
            assert secret not in service.log


def test_prompts_are_logged_when_asked_for(start: Start) -> None:
    with start(LOG_FORMAT="json", LOG_PROMPTS="true") as service:
        service.await_ready()
        ask(service)
        (line,) = [line for line in lines(service) if "prompt" in line]
        assert (line["prompt"], line["request_id"]) == ("a private matter", "request-1")


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()])
def test_a_record_is_one_line_whatever_a_client_wrote(formatter: logging.Formatter) -> None:
    forged = "cat\n12:00:00 INFO ready\r\x1b[2Kdone seed=7"
    record = logging.makeLogRecord({"msg": "no request: %s", "args": (forged,), "prompt": forged})
    line = formatter.format(record)
    assert line.isprintable()
    assert "cat\\n12:00:00 INFO ready\\r\\" in line
