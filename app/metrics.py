"""Every metric of the service, in one place.

Base units; labels only from small closed sets, never a prompt, a seed or a request id. Each
`Metrics` has its own registry, so that several services can live in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from app import tracing
from app.engine.metrics import EngineMetrics, Rejection, Restart
from model.protocol import Pass

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
EVALUATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def installed_version() -> str:
    """The version of the distribution; "unknown" where it runs without being installed."""
    try:
        return version("tessera-serve")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Load:
    """Rows of a model that wait for a worker, and that are with one."""

    waiting: int = 0
    running: int = 0


class Metrics(EngineMetrics):
    """What the engine reports, and what the HTTP side counts.

    Attributes:
        load: the present load of each model that had any, by its id.
    """

    def __init__(self) -> None:
        self.load: dict[str, Load] = {}
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        histogram, counter, gauge = self._histogram, self._counter, self._gauge

        self._request = histogram("request_seconds", "Request to last byte", "route", "outcome")
        self._requests = counter("requests", "Requests answered", "outcome")
        self._by_key = counter("key_requests", "Requests answered to an API key", "key", "outcome")
        self._encode = histogram("encode_seconds", "One picture to a file", "format")
        self._file_hits = counter("file_cache_hits", "Encoded images from memory", "model")
        self._uploads = gauge("upload_memory_bytes", "Held for forms with pictures")
        self._unlimited = counter("rate_limits_unchecked", "Let through: limit store is down")

        self._queue = histogram("queue_seconds", "A row's wait for a worker", "model")
        self._compute = histogram("compute_seconds", "A row's start to its last step", "model")
        self._step = histogram("step_seconds", "One step of a worker", "model")
        self._preview = histogram("first_preview_seconds", "Until the first preview", "model")
        self._evaluations = Histogram(
            "tessera_pass_evaluations",
            "Evaluations in a pass, without padding",
            ["model"],
            buckets=EVALUATIONS,
            registry=self._registry,
        )
        self._passes = counter("passes", "Passes by evaluations, padding included", "model", "size")
        self._padding = counter("padding_evaluations", "Evaluations of passes left empty", "model")
        self._joined = counter("rows_joined", "Rows that joined a running batch", "model")
        self._left = counter("rows_left", "Rows that were done while their batch went on", "model")
        self._waiting = gauge("rows_waiting", "Rows that wait for a worker", "model")
        self._running = gauge("rows_running", "Rows with a worker", "model")
        self._images = counter("images", "Images computed", "model")
        self._descriptions = counter("descriptions", "Pictures described", "model")
        self._pixels = counter("pixels", "Pixels computed", "model")
        self._cache_hits = counter("cache_hits", "Images answered from memory", "model")
        self._coalesced = counter("coalesced", "Images that shared a row", "model")
        self._cancelled = counter("cancellations", "Rows that nobody waited for", "model")
        self._replays = counter("replays", "Rows computed again after a crash", "model")
        self._rejections = counter("rejections", "Work refused or given up", "reason")
        self._restarts = counter("worker_restarts", "Workers replaced", "device", "reason")
        self._memory = gauge("device_memory_bytes", "Held by a worker", "device")
        self._seed_exact = gauge("seed_exact", "Whether the self-test held", "model")
        self._workers = gauge("workers", "Workers that take rows now")
        self._unencoded = gauge("encode_waiting_bytes", "Images made and not yet files, as pixels")
        self._ready = gauge("ready", "Whether new work is taken")
        gauge("build_info", "Always 1", "version").labels(installed_version()).set(1)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"tessera_{name}", text, labels, buckets=SECONDS, registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tessera_{name}_total", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"tessera_{name}", text, labels, registry=self._registry)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def render_for(self, accept: str) -> tuple[bytes, str]:
        """OpenMetrics, which has exemplars, for those who ask for it; and the Content-Type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    # The HTTP side.

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        """Asks ``ready`` whenever the metrics are read."""
        self._ready.set_function(lambda: float(ready()))

    def watch_workers(self, workers: Callable[[], int]) -> None:
        """Asks how many there are whenever the metrics are read."""
        self._workers.set_function(lambda: float(workers()))

    def watch_encoding(self, waiting: Callable[[], int]) -> None:
        """Asks how many bytes wait whenever the metrics are read."""
        self._unencoded.set_function(lambda: float(waiting()))

    def watch_uploads(self, held: Callable[[], int]) -> None:
        """Asks how many bytes are ``held`` whenever the metrics are read."""
        self._uploads.set_function(lambda: float(held()))

    def answered(self, route: str, outcome: str, seconds: float) -> None:
        self._request.labels(route, outcome).observe(seconds, tracing.exemplar())
        self._requests.labels(outcome).inc()

    def answered_to_key(self, key: str, outcome: str) -> None:
        """``key`` is the name of one of those in the settings."""
        self._by_key.labels(key, outcome).inc()

    def encoded(self, format_: str, seconds: float) -> None:
        self._encode.labels(format_).observe(seconds, tracing.exemplar())

    def file_cache_hit(self, model: str) -> None:
        self._file_hits.labels(model).inc()

    def refused(self, reason: str) -> None:
        """A request was turned away before it reached the engine."""
        self._rejections.labels(reason).inc()

    def limit_unchecked(self) -> None:
        self._unlimited.inc()

    # The engine's side, see `EngineMetrics`.

    def rejected(self, reason: Rejection) -> None:
        self._rejections.labels(reason).inc()

    def cache_hit(self, model: str) -> None:
        self._cache_hits.labels(model).inc()

    def coalesced(self, model: str) -> None:
        self._coalesced.labels(model).inc()

    def rows(self, model: str, *, waiting: int, running: int) -> None:
        self.load[model] = Load(waiting, running)
        self._waiting.labels(model).set(waiting)
        self._running.labels(model).set(running)

    def joined(self, model: str, rows: int) -> None:
        self._joined.labels(model).inc(rows)

    def left(self, model: str, rows: int) -> None:
        self._left.labels(model).inc(rows)

    def stepped(self, model: str, seconds: float, passes: Sequence[Pass]) -> None:
        self._step.labels(model).observe(seconds)
        for done in passes:
            self._evaluations.labels(model).observe(done.evaluations)
            self._passes.labels(model, done.size).inc()
            self._padding.labels(model).inc(done.size - done.evaluations)

    def first_preview(self, model: str, seconds: float) -> None:
        self._preview.labels(model).observe(seconds, tracing.exemplar())

    def finished(
        self, model: str, *, queue_seconds: float, compute_seconds: float, pixels: int
    ) -> None:
        self._queue.labels(model).observe(queue_seconds, tracing.exemplar())
        self._compute.labels(model).observe(compute_seconds, tracing.exemplar())
        (self._images if pixels else self._descriptions).labels(model).inc()
        self._pixels.labels(model).inc(pixels)

    def cancelled(self, model: str, rows: int) -> None:
        self._cancelled.labels(model).inc(rows)

    def replayed(self, model: str, rows: int) -> None:
        self._replays.labels(model).inc(rows)

    def restarted(self, device: str, reason: Restart) -> None:
        self._restarts.labels(device, reason).inc()

    def device_memory(self, device: str, allocated: int) -> None:
        self._memory.labels(device).set(allocated)

    def loaded(self, model: str, *, seed_exact: bool) -> None:
        self._seed_exact.labels(model).set(seed_exact)
