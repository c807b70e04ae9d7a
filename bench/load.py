"""Load on a service that makes images: what is asked for, when, and how long each answer takes.

What is asked (`Mix.requests`) and when (`arrivals`) depend on a seed alone, so that one system gets
exactly what another gets. In the open loop latency counts from the *planned* arrival to the last
byte: an answer that a stalled server or client holds up is late for all of that time.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import httpx
import numpy as np

from model.spec import ModelSpec

PATIENCE = 900.0  # seconds until an answer is given up, and has failed

SUBJECTS = (
    "red apple",
    "fox",
    "cactus",
    "hot beverage",
    "sunflower",
    "guitar",
    "penguin",
    "rocket",
)
STYLES = ("fluent 3d style", "noto style")


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Some pictures to draw; the first has the seed, the next ones those that follow."""

    prompt: str
    seed: int
    steps: int
    n: int


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests that differ in prompt and seed alone; ``weight`` of them in each round of a mix."""

    steps: int
    n: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Mix:
    """Kinds of requests, the shortest first.

    Every round of as many requests as the weights sum to holds each kind exactly by its weight, in
    drawn order: short measurements then have the shares that were meant.
    """

    name: str
    kinds: tuple[Kind, ...]

    @property
    def pictures_per_request(self) -> float:
        """On average."""
        weights = sum(kind.weight for kind in self.kinds)
        return sum(kind.weight * kind.n for kind in self.kinds) / weights

    def is_short(self, request: LoadRequest) -> bool:
        """Whether it is of the first kind."""
        return (request.steps, request.n) == (self.kinds[0].steps, self.kinds[0].n)

    def requests(self, seed: int) -> Iterator[LoadRequest]:
        """Without end. No two share a picture, so that no cache can help."""
        draw = random.Random(f"requests {seed}")
        next_seed = 0
        while True:
            round_ = [kind for kind in self.kinds for _ in range(kind.weight)]
            draw.shuffle(round_)
            for kind in round_:
                prompt = f"{draw.choice(SUBJECTS)}, {draw.choice(STYLES)}"
                yield LoadRequest(prompt, next_seed, kind.steps, kind.n)
                next_seed += kind.n


def mixes(spec: ModelSpec) -> tuple[Mix, ...]:
    """The two that are measured; without the second where the model has no such steps."""
    equal = Mix("equal", (Kind(int(spec.request(SUBJECTS[0]).value("steps", 1)), 1),))
    mixed = Mix("mixed", (Kind(8, 1, weight=9), Kind(50, 8, weight=1)))
    steps = spec.parameter("steps")
    fits = steps and all(steps.minimum <= kind.steps <= steps.maximum for kind in mixed.kinds)
    return (equal, mixed) if fits else (equal,)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, and when it comes: seconds after the beginning."""

    at: float
    request: LoadRequest


def arrivals(mix: Mix, rate: float, seconds: float, seed: int) -> Iterator[Arrival]:
    """A Poisson process of ``rate`` requests a second, for so many seconds."""
    draw = random.Random(f"arrivals {seed}")
    at = draw.expovariate(rate)
    for request in mix.requests(seed):
        if at >= seconds:
            return
        yield Arrival(at, request)
        at += draw.expovariate(rate)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request. Times are seconds after the loop's beginning."""

    request: LoadRequest
    began: float  # open loop: the planned arrival; closed loop: when it was sent
    ended: float  # the last byte
    error: str = ""  # what went wrong, if it did

    @property
    def latency(self) -> float:
        """Seconds; infinite where no picture came."""
        return math.inf if self.error else self.ended - self.began


Send = Callable[[LoadRequest], Awaitable[bytes]]
"""Answers with the body. Raises ``httpx.HTTPError`` where there is none."""


def sender(
    client: httpx.AsyncClient, path: str, body: Callable[[LoadRequest], object] = asdict
) -> Send:
    """Posts a request's ``body`` as JSON; everything but 2xx is an error."""

    async def send(request: LoadRequest) -> bytes:
        answer = await client.post(path, json=body(request))
        answer.raise_for_status()
        return answer.content

    return send


def load_client(url: str) -> httpx.AsyncClient:
    """As many connections as there are requests in flight; none is reused that may be closing."""
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0
    )
    return httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits)


async def open_loop(send: Send, plan: Iterable[Arrival]) -> list[Outcome]:
    """Sends each request at its time, whatever has become of the ones before."""
    clock = asyncio.get_running_loop().time
    began = clock()

    async def ask(arrival: Arrival) -> Outcome:
        await asyncio.sleep(began + arrival.at - clock())
        error = await _error(send, arrival.request)
        return Outcome(arrival.request, arrival.at, clock() - began, error)

    return await asyncio.gather(*map(ask, plan))


async def one_by_one(
    send: Send, requests: Iterator[LoadRequest], *, seconds: float, pause: float = 0.0
) -> list[Outcome]:
    """Sends each request when the one before is answered and a ``pause`` is over, until ``seconds``
    have passed."""
    clock = asyncio.get_running_loop().time
    start, outcomes = clock(), list[Outcome]()
    while clock() < start + seconds:
        await asyncio.sleep(pause)
        began = clock()
        request = next(requests)
        error = await _error(send, request)
        outcomes.append(Outcome(request, began - start, clock() - start, error))
    return outcomes


@dataclass(frozen=True, slots=True)
class Saturation:
    """What a system delivers when it always has enough to do."""

    images_per_second: float
    errors: tuple[str, ...]  # of the requests that failed


async def closed_loop(
    send: Send, requests: Iterator[LoadRequest], *, in_flight: int, after: int, seconds: float
) -> Saturation:
    """Keeps so many requests in flight; measures for ``seconds`` from the answer number ``after``.

    Those in flight at the end are waited for.
    """
    clock = asyncio.get_running_loop().time
    outcomes: list[Outcome] = []
    warm, over = asyncio.Event(), asyncio.Event()

    async def client() -> None:
        while not over.is_set():
            request, began = next(requests), clock()
            error = await _error(send, request)
            outcomes.append(Outcome(request, began, clock(), error))
            if len(outcomes) >= after:
                warm.set()

    async with asyncio.TaskGroup() as clients:
        for _ in range(in_flight):
            clients.create_task(client())
        await warm.wait()
        start = clock()
        await asyncio.sleep(seconds)
        end = clock()
        over.set()
    errors = tuple(outcome.error for outcome in outcomes if outcome.error)
    return Saturation(images_per_second(outcomes, start, end), errors)


def images_per_second(outcomes: Iterable[Outcome], start: float, end: float) -> float:
    """Pictures between two times; each counts by the share of its time in flight that lies there.

    Requests of many pictures end rarely: counting those that end would depend on when one looks.
    """
    pictures = 0.0
    for outcome in outcomes:
        overlap = min(outcome.ended, end) - max(outcome.began, start)
        if not outcome.error and overlap > 0:
            pictures += outcome.request.n * overlap / (outcome.ended - outcome.began)
    return pictures / (end - start)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` of them do not exceed; NaN of none."""
    measured = np.fromiter(values, np.float64)
    if not measured.size:
        return math.nan
    return float(np.quantile(measured, share, method="inverted_cdf"))


async def warm_up(send: Send, requests: Iterator[LoadRequest], *, answers: int) -> None:
    """Asks for so many answers, one after the other. Raises what `Send` raises.

    A server that adapts to its load has then not adapted to concurrent requests.
    """
    for request in itertools.islice(requests, answers):
        await send(request)


async def _error(send: Send, request: LoadRequest) -> str:
    try:
        await send(request)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return ""
