"""Spans of requests, sent by OTLP to whoever collects them: the extra "otel".

A span for each request, within the trace that its ``traceparent`` names (W3C Trace Context), and in
it one each for what its images waited (queue), were computed (compute, all steps as one) and were
encoded (encode). Off unless set, and then nothing of OpenTelemetry is imported. OpenTelemetry's own
variables say the rest: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER …
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from app.engine import Timings

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROBES = frozenset({"/livez", "/readyz", "/metrics", "/v1/status"})
"""Asked every few seconds by machines: not traced."""

SECOND = 1_000_000_000  # nanoseconds

request_span: ContextVar[RequestSpan | None] = ContextVar("request_span", default=None)
"""The span of the request that the current task answers."""


def image_done(model: str, timings: Timings, encode: float) -> None:
    """An image of the present request is a file, just now; ``encode`` is in seconds."""
    if (request := request_span.get()) is not None:
        request.image_done(model, timings, encode)


def exemplar() -> dict[str, str] | None:
    """What leads from a histogram to the present request's trace."""
    request = request_span.get()
    return None if request is None else request.exemplar


def start(version: str) -> Tracer:
    """What makes spans and sends them, in a thread of its own. Raises `ValueError`."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        message = 'TESSERA_TRACING: needs the extra "otel": pip install "tessera-serve[otel]"'
        raise ValueError(message) from error
    about = {
        "service.version": version,
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    if "OTEL_SERVICE_NAME" not in os.environ:
        about["service.name"] = "tessera"
    provider = TracerProvider(resource=Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))  # flushed at exit
    return provider.get_tracer("tessera", version)


class RequestSpan:
    """The span of one request, and its children."""

    def __init__(self, tracer: Tracer, headers: Mapping[str, str], method: str) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(headers)
        about = {"http.request.method": method}
        self._tracer = tracer
        self._span: Span = tracer.start_span(method, parent, SpanKind.SERVER, about)
        self._context = set_span_in_context(self._span)
        context = self._span.get_span_context()
        self.exemplar = (
            {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
            if self._span.is_recording()
            else None
        )

    def image_done(self, model: str, timings: Timings, encode: float) -> None:
        end = time.time_ns()
        about = {"tessera.model": model}
        for name, seconds in (
            ("encode", encode),
            ("compute", timings.compute),
            ("queue", timings.queue),
        ):
            begin = end - round(seconds * SECOND)
            child = self._tracer.start_span(name, self._context, attributes=about, start_time=begin)
            child.end(end)
            end = begin

    def answered(self, route: str, method: str, status: int, request_id: str) -> None:
        """Ends it."""
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {
                "http.route": route,
                "http.response.status_code": status,
                "tessera.request_id": request_id,
            }
        )
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """Pure ASGI middleware, around all others, so that what they count has the trace."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request = RequestSpan(self._tracer, sent, scope["method"])
        status, request_id = 500, ""

        async def sending(message: Message) -> None:
            nonlocal status, request_id
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = dict(message["headers"])
                request_id = headers.get(b"x-request-id", b"").decode("latin-1")
            await send(message)

        token = request_span.set(request)
        try:
            await self._app(scope, receive, sending)
        finally:
            request_span.reset(token)
            route = getattr(scope.get("route"), "path_format", "none")
            request.answered(route, scope["method"], status, request_id)
