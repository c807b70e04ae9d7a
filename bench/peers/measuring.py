"""The measurement: every system saturated by every mix, then all at one rate that each can sustain;
and its report in Markdown.

Only one system runs at a time. Each is started twice, as the rate depends on the slowest of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TypeVar

import httpx
from PIL import Image

from app.cli.console import UserError
from bench.load import (
    LoadRequest,
    Mix,
    Outcome,
    Saturation,
    Send,
    arrivals,
    closed_loop,
    load_client,
    open_loop,
    percentile,
    sender,
    warm_up,
)
from bench.peers.drawing import PeerSettings
from bench.peers.systems import System, running

SHARE = 0.7
"""Of the lowest saturation: the rate in the open loop."""

FULL = 2
"""How often the requests in flight fill the tile, where a system is to be saturated."""

WARM_UP = 16
"""Answers that are not measured. BentoML draws its first dozen one by one, to learn their times."""

SEED = 0

OnStage = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    mixes: tuple[Mix, ...]
    steps: int  # of the pictures that are compared
    seconds: float  # of the open loop
    saturation_seconds: float

    def stages(self, systems: int) -> int:
        """How many `compare` reports."""
        return 2 * systems * (1 + len(self.mixes))


@dataclass(frozen=True, slots=True)
class Measured:
    """One mix. What is by system has its title; systems that failed are missing."""

    mix: Mix
    rate: float  # requests a second in the open loop
    saturations: dict[str, Saturation]
    outcomes: dict[str, list[Outcome]]  # of the open loop


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that was found."""

    measured: tuple[Measured, ...]
    fingerprints: dict[str, str]  # of what each system draws
    problems: tuple[str, ...]  # why systems are missing


def compare(
    systems: Sequence[System], settings: PeerSettings, plan: Plan, on_stage: OnStage
) -> Comparison:
    """Measures them all; ``on_stage`` is called with each stage as it begins."""
    stand = _Stand(settings, plan, on_stage)
    saturated = stand.run(systems, stand.saturate)
    rates = [
        SHARE
        * min(one.saturations[index].images_per_second for one in saturated.values())
        / mix.pictures_per_request
        for index, mix in enumerate(plan.mixes if saturated else ())
    ]
    answered = stand.run(saturated, partial(stand.at_rates, rates=rates))
    measured = tuple(
        Measured(
            mix=plan.mixes[index],
            rate=rate,
            saturations={system.title: one.saturations[index] for system, one in saturated.items()},
            outcomes={system.title: found[index] for system, found in answered.items()},
        )
        for index, rate in enumerate(rates)
    )
    fingerprints = {system.title: one.fingerprint for system, one in saturated.items()}
    return Comparison(measured, fingerprints, tuple(stand.problems))


@dataclass(frozen=True, slots=True)
class _Saturated:
    fingerprint: str
    saturations: list[Saturation]  # by mix


class _Stand:
    """Runs one system after the other."""

    def __init__(self, settings: PeerSettings, plan: Plan, on_stage: OnStage) -> None:
        self.problems: list[str] = []
        self._settings = settings
        self._plan = plan
        self._on_stage = on_stage
        self._in_flight = FULL * settings.pictures

    def run(
        self, systems: Iterable[System], work: Callable[[str, Send], Awaitable[T]]
    ) -> dict[System, T]:
        """What the work found of each system that could be started and did it."""
        found = {}
        for system in systems:
            self._on_stage(f"{system.title}: starting")
            try:
                with running(system, self._settings, samples(self._plan.steps)[0]) as url:
                    found[system] = asyncio.run(_with_client(system, url, work))
            except UserError as error:
                self.problems.append(str(error))
            except httpx.HTTPError as error:
                self.problems.append(f"{system.title}: {type(error).__name__}: {error}")
        return found

    async def saturate(self, title: str, send: Send) -> _Saturated:
        """In every mix. Raises `UserError` where it answers nothing."""
        drawn = await fingerprint(send, self._plan.steps)
        saturations = []
        for mix in self._plan.mixes:
            self._on_stage(f"{title}: {mix.name}, saturated")
            saturation = await closed_loop(
                send,
                mix.requests(SEED),
                in_flight=self._in_flight,
                after=WARM_UP,
                seconds=self._plan.saturation_seconds,
            )
            if not saturation.images_per_second:
                raise UserError(f"{title} answers no request of {mix.name} when it is saturated")
            saturations.append(saturation)
        return _Saturated(drawn, saturations)

    async def at_rates(self, title: str, send: Send, rates: Sequence[float]) -> list[list[Outcome]]:
        """What became of the requests of every mix."""
        outcomes = []
        for mix, rate in zip(self._plan.mixes, rates, strict=True):
            self._on_stage(f"{title}: {mix.name}, {rate:.2f} requests/s")
            await warm_up(send, mix.requests(SEED + 1), answers=WARM_UP)
            outcomes.append(await open_loop(send, arrivals(mix, rate, self._plan.seconds, SEED)))
        return outcomes


async def _with_client(system: System, url: str, work: Callable[[str, Send], Awaitable[T]]) -> T:
    async with load_client(url) as client:
        return await work(system.title, sender(client, system.path, system.body))


PNG = b"\x89PNG"


def samples(steps: int) -> tuple[LoadRequest, ...]:
    """Requests whose answers are compared: a picture, and several with others among them."""
    prompt = "red apple, fluent 3d style"
    return (LoadRequest(prompt, 7, steps, n=1), LoadRequest(prompt, 8, steps, n=5))


async def fingerprint(send: Send, steps: int) -> str:
    """Equal for equal pixels of all `samples`. Raises ``httpx.HTTPError``."""
    total = hashlib.sha256()
    for request in samples(steps):
        found = list(files(await send(request)))
        total.update(f"{len(found)} files ".encode())
        for file in found:
            with Image.open(BytesIO(file)) as image:
                total.update(f"{image.mode} {image.size} ".encode() + image.tobytes())
    return total.hexdigest()[:12]


def files(answer: bytes) -> Iterator[bytes]:
    """The PNG files in an answer: it is one itself, or a JSON list of them."""
    if answer.startswith(PNG):
        yield answer
        return
    page = json.loads(answer)
    for image in page["images"] if isinstance(page, dict) else page:  # Tessera's, a peer's
        yield b64decode(image["b64_json"] if isinstance(image, dict) else image)


TESSERA = "Tessera"

TARGETS = {
    ("equal", "p50, s"): 1.15,
    ("mixed", "p50, s"): 0.7,
    ("mixed", "p99 of the short ones, s"): 0.7,
}
"""The most that Tessera's latency should be of the best peer's. Printed, never asserted: requests
that are all equal, on a device that each of them keeps busy alone, are served best in turn."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A row of a table: one figure of every system."""

    name: str
    values: Mapping[str, float]
    best: Callable[[Iterable[float]], float]  # min, or max where more is better
    target: float | None = None

    @property
    def ratio(self) -> float:
        """Tessera's ÷ the best peer's; NaN where one of them is missing or answered nothing."""
        peers = [value for title, value in self.values.items() if title != TESSERA]
        mine = self.values.get(TESSERA, math.nan)
        best = self.best(peers) if peers else math.nan
        return mine / best if best else math.nan


def measures(measured: Measured) -> Iterator[Measure]:
    """The rows of one mix that have a ratio."""
    mix = measured.mix

    def latency(name: str, share: float, only: Callable[[Outcome], bool]) -> Measure:
        values = {
            title: percentile((one.latency for one in outcomes if only(one)), share)
            for title, outcomes in measured.outcomes.items()
        }
        return Measure(name, values, min, TARGETS.get((mix.name, name)))

    saturations = measured.saturations.items()
    rates = {title: one.images_per_second for title, one in saturations}
    yield Measure("images/s, saturated", rates, max)
    yield latency("p50, s", 0.5, lambda one: True)
    yield latency("p99, s", 0.99, lambda one: True)
    if len(mix.kinds) > 1:
        yield latency("p50 of the short ones, s", 0.5, lambda one: mix.is_short(one.request))
        yield latency("p99 of the short ones, s", 0.99, lambda one: mix.is_short(one.request))


def report(
    comparison: Comparison, titles: Sequence[str], facts: Mapping[str, str]
) -> Iterator[str]:
    """The lines of a Markdown file. ``titles`` are the systems, in order; ``facts`` what they had
    in common.
    """
    yield from ("# Tessera and its peers", "", "| what | which |", "| --- | --- |")
    yield from (f"| {what} | {which} |" for what, which in facts.items())
    for measured in comparison.measured:
        yield from ("", f"## {measured.mix.name.capitalize()}", "", _described(measured), "")
        yield from _table(measured, titles)
    yield from ("", _pixels(comparison.fingerprints))
    if comparison.problems:
        yield from ("", "## Left out", "")
        yield from (f"* {problem}" for problem in comparison.problems)


def _described(measured: Measured) -> str:
    kinds = measured.mix.kinds
    total = sum(kind.weight for kind in kinds)
    shares = " and ".join(
        f"{kind.weight / total:.0%} with {kind.steps} steps, n = {kind.n}" for kind in kinds
    )
    counts = [len(outcomes) for outcomes in measured.outcomes.values()]
    arrived = f" ({counts[0]} requests)" if counts else ""
    return (
        f"{shares}. Latencies at {measured.rate:.2f} requests/s{arrived}, {SHARE:.0%} of the "
        "lowest saturation, from the planned arrival to the last byte; a request that failed took "
        "for ever."
    )


def _table(measured: Measured, titles: Sequence[str]) -> Iterator[str]:
    yield f"| | {' | '.join(titles)} | {TESSERA} ÷ best peer | target |"
    yield f"| --- |{' ---: |' * (len(titles) + 2)}"
    for measure in measures(measured):
        cells = [_figure(measure.values.get(title, math.nan)) for title in titles]
        target = "" if measure.target is None else f"≤ {measure.target:g}"
        yield f"| {measure.name} | {' | '.join(cells)} | {_figure(measure.ratio)} | {target} |"
    errors = _errors(measured)
    failed = [str(len(errors[title])) if title in errors else "–" for title in titles]
    yield f"| failed | {' | '.join(failed)} | | |"
    for title, found in errors.items():
        for error, count in Counter(found).most_common(1):
            yield from ("", f"{title}, {count} times: {error}")


def _errors(measured: Measured) -> dict[str, list[str]]:
    """Of all requests that failed, by system."""
    return {
        title: [
            *saturation.errors,
            *(one.error for one in measured.outcomes.get(title, ()) if one.error),
        ]
        for title, saturation in measured.saturations.items()
    }


def _figure(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _pixels(fingerprints: Mapping[str, str]) -> str:
    if len(fingerprints) > 1 and len(set(fingerprints.values())) == 1:
        return "All drew the same pixels for the same prompt and seed."
    return "Pixels: " + ", ".join(f"{title} {hash_}" for title, hash_ in fingerprints.items()) + "."
