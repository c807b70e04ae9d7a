"""`tools.answers`: what it asks is answered, and what differs is named."""

from __future__ import annotations

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.service.running import running
from tools.answers.__main__ import main
from tools.answers.all_requests import FLOW, GAN, GPT
from tools.answers.comparing import report
from tools.answers.recording import Answer, Recorder, answer_of, record
from tools.answers.request import EVENTS, get

Kept = dict[str, dict[str, Any]]

FAMILIES = {FLOW: "flow", GPT: "gpt", GAN: "gan"}

TOO_MUCH = {"gpt-free-chinese", "address-gpt-sampling"}
"""Requests for more likely tokens than the tiny model has."""


def recorded(models: dict[str, Path], log: Path) -> Recorder:
    named = ",".join(f"{name}={models[family]}" for name, family in FAMILIES.items())
    with running(Path(named), log) as service:
        return record(service.await_ready().url)


def test_all_requests_are_answered_and_alike_by_the_next_service(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    both = [recorded(tiny_models, tmp_path / name) for name in ("one", "other")]
    for each in both:
        refused = {name for name, answer in each.answers.items() if answer.status != 200}
        assert refused == TOO_MUCH
    # Tiny models draw faster than previews are read, so streams differ by chance.
    one, other = (
        {name: asdict(a) for name, a in each.answers.items() if a.content_type != EVENTS}
        for each in both
    )
    text, equal = report(one, other)
    assert equal, text
    assert text.startswith(f"All {len(one)} answers are equal.\n")


def answer(content: bytes, content_type: str) -> Answer:
    response = httpx.Response(200, content=content, headers={"content-type": content_type})
    return answer_of(get("one", "/v1/one"), response)


def png(colour: str, **written: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG", **written)
    return file.getvalue()


def test_times_and_hosts_are_no_difference() -> None:
    def listed(host: str, created: int) -> Answer:
        url = f"http://{host}/v1/images/7.png?steps=4"
        content = json.dumps({"created": created, "data": [{"url": url}]}).encode()
        return answer(content, "application/json; charset=utf-8")

    assert listed("127.0.0.1:8000", 1) == listed("localhost:9000", 2)
    assert listed("127.0.0.1:8000", 1).contents == {"data": [{"url": "/v1/images/7.png?steps=4"}]}


def test_of_a_stream_progress_and_the_order_do_not_count() -> None:
    seen = answer(b'event: done\ndata: {"n": 1}\n\nevent: progress\ndata: {}\n\n: ping\n\n', EVENTS)
    assert seen.contents == [{"event": "done", "data": {"n": 1}}]


@pytest.fixture
def one() -> Kept:
    return {
        "red": asdict(answer(png("red"), "image/png")),
        "blue": asdict(answer(png("blue"), "image/png")),
    }


def test_another_image_is_a_difference(one: Kept) -> None:
    text, equal = report(one, one | {"red": asdict(answer(png("green"), "image/png"))})
    assert not equal
    assert "red" in text
    assert "blue" not in text
    assert text.endswith("1 of 2 answers differ.\n")
    assert "The pixels are equal" not in text


def test_the_same_pixels_in_another_file_are_said_to_be_the_same(one: Kept) -> None:
    packed = asdict(answer(png("red", compress_level=0), "image/png"))
    text, equal = report(one, one | {"red": packed})
    assert not equal
    assert "The pixels are equal: only what the file says of itself has changed." in text


def test_the_command_exits_1_where_records_differ_and_2_without_one(
    one: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    for file, kept in zip(files, (one, {"red": one["red"]}), strict=True):
        file.write_text(json.dumps(kept))
    assert main(["compare", str(files[0]), str(files[0])]) == 0
    assert main(["compare", *map(str, files)]) == 1
    assert "blue" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["compare", str(files[0]), str(tmp_path / "nothing.json")])


def test_a_service_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "http://127.0.0.1:9", str(tmp_path / "out.json")]) == 1
    assert capsys.readouterr().err.startswith("http://127.0.0.1:9: ")
    assert not (tmp_path / "out.json").exists()
