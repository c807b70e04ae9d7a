"""If these fail, traces have holes, name strangers as parents, or cost those who want none."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.service.running import Service, Start, running

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


@dataclass
class Collector:
    """Takes traces by OTLP over HTTP, as OpenTelemetry's collector does."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    resource: dict[str, str] = field(default_factory=dict)

    def await_spans(self, name: str, count: int = 1) -> list[Any]:
        deadline = time.monotonic() + 30
        while True:
            found = [span for span in self.spans if span.name == name]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.1)

    def children(self, parent: Any) -> list[Any]:
        return [span for span in self.spans if span.parent_span_id == parent.span_id]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = each.resource.attributes
                collector.resource |= {one.key: one.value.string_value for one in attributes}
                for scope in each.scope_spans:
                    collector.spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def traced(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Collector]]:
    log = tmp_path_factory.mktemp("traced") / "log"
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with running(tiny, log, TRACING="true") as service:
            yield service.await_ready(), collector


def test_a_request_is_a_span_in_its_callers_trace(traced: tuple[Service, Collector]) -> None:
    service, collector = traced
    body = {"prompt": "red apple", "seed": 7, "n": 2}
    began = time.time_ns()
    answer = httpx.post(f"{service.url}/v1/images", json=body, headers=TRACEPARENT)
    assert answer.status_code == 200
    (request,) = collector.await_spans("POST /v1/images")
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == CALLER
    attributes = {one.key: one.value for one in request.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["tessera.request_id"].string_value == answer.headers["x-request-id"]
    assert collector.resource["service.name"] == "tessera"

    children = collector.children(request)
    names = sorted(child.name for child in children)
    assert names == ["compute"] * 2 + ["encode"] * 2 + ["queue"] * 2  # one each, not one a step
    for child in children:
        assert child.trace_id == request.trace_id
        assert began <= child.start_time_unix_nano <= child.end_time_unix_nano
        assert child.end_time_unix_nano <= request.end_time_unix_nano

    # Neither prompts nor seeds leave with it.
    assert b"apple" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_streams_and_failures_are_traced_and_probes_are_not(
    traced: tuple[Service, Collector],
) -> None:
    service, collector = traced
    events = {"Accept": "text/event-stream"}
    before = len(collector.spans)
    httpx.get(f"{service.url}/readyz")
    httpx.post(f"{service.url}/v1/images", json={"seed": 1}, headers=events)
    httpx.get(f"{service.url}/v1/images/7.png?steps=0")
    (refused,) = collector.await_spans("GET /v1/images/{seed}.{format}")
    stream = collector.await_spans("POST /v1/images")[-1]
    assert not stream.parent_span_id
    assert sorted(span.name for span in collector.children(stream)) == [
        *("compute", "encode", "queue"),
    ]
    assert not collector.children(refused)
    assert len(collector.spans) == before + 5


def test_histograms_lead_to_traces_where_openmetrics_is_asked_for(
    traced: tuple[Service, Collector],
) -> None:
    service, _ = traced
    trace = TRACE[::-1]
    body = {"prompt": "red apple", "seed": 8}
    parent = {"traceparent": f"00-{trace}-{CALLER}-01"}
    httpx.post(f"{service.url}/v1/images", json=body, headers=parent)
    previewed = {"prompt": "red apple", "seed": 9, "previews": True}
    events = {"Accept": "text/event-stream"}
    httpx.post(f"{service.url}/v1/images", json=previewed, headers=parent | events)
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = httpx.get(f"{service.url}/metrics", headers=wanted)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    # All but the steps', which are of many requests.
    led = {
        line.partition("_seconds_bucket")[0].removeprefix("tessera_")
        for line in answer.text.splitlines()
        if f'trace_id="{trace}"' in line
    }
    assert led == {"request", "queue", "compute", "encode", "first_preview"}
    plain = httpx.get(f"{service.url}/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "trace_id" not in plain.text


def test_nothing_is_lost_where_nobody_collects(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # seconds; else it is tried for ten
    with start(TRACING="true") as service:
        service.await_ready()
        assert httpx.get(f"{service.url}/v1/images/7.png").status_code == 200
        service.signal()
        assert service.ended() == 0


def test_off_it_imports_nothing() -> None:
    code = (
        "import sys, app.main; from app.settings import Settings;"
        "app.main.create_app(Settings(models=('emoji-gan',)));"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
