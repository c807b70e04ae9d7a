"""The measurement: every system alone, at shares of the lowest saturation, and saturated, in rounds
that interleave the systems; and its report in Markdown, with a plot.

They take turns in each load, as the speed of a machine may change within minutes, and only one runs
at a time: the others are stopped meanwhile. A first round finds what each delivers when it is
saturated, as the rates of all depend on the slowest of them; unless they are given, as an earlier
run had them: what the slowest delivers in some seconds differs by a third from hour to hour.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import statistics
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image

from app.cli.console import UserError
from bench.load import (
    Arrival,
    LoadRequest,
    Mix,
    Outcome,
    Saturation,
    Send,
    arrivals,
    closed_loop,
    load_client,
    one_by_one,
    open_loop,
    percentile,
    sender,
    warm_up,
)
from bench.peers.drawing import PeerSettings
from bench.peers.systems import Running, System, running

ALONE = 0.0
SHARES = {"equal": (ALONE, 0.3, 0.7), "mixed": (0.7,)}
"""By mix: rates of the open loop, of the lowest saturation; `ALONE` is one request at a time."""

FULL = 2
"""How often the requests in flight fill the tile, where a system is to be saturated."""

WARM_UP = 16
"""Answers that are not measured. BentoML draws its first dozen one by one, to learn their times."""

SEED = 0

LONGER = 4
"""So many times as long as the others, loads of unequal requests last."""

OnStage = Callable[[str], None]
OnFigure = Callable[[str], None]
Work = Callable[[str, Send], Awaitable[None]]
"""What is done with the system of this title."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    mixes: tuple[Mix, ...]
    steps: int  # of the pictures that are compared
    seconds: float  # of each load
    saturation_seconds: float
    rounds: int
    rates: tuple[float, ...] = ()
    """Requests a second of which loads are shares, for each mix; without them, the lowest
    saturation, which has to be found first."""

    @property
    def first(self) -> tuple[Mix, ...]:
        """In which rates are to be found."""
        return () if self.rates else self.mixes

    def stages(self, systems: int) -> int:
        """How many `compare` reports."""
        first = 1 + len(self.first)
        saturated = sum(map(is_of_equals, self.mixes))
        loads = sum(len(SHARES[mix.name]) for mix in self.mixes)
        return systems * (first + self.rounds * (1 + saturated + loads))

    def duration(self, systems: int) -> float:
        """Seconds that it takes, about: starts and warming up are not known beforehand."""
        loads = sum(len(SHARES[mix.name]) * self.lasting(mix) for mix in self.mixes)
        first = self.saturation_seconds * len(self.first)
        saturated = self.saturation_seconds * sum(map(is_of_equals, self.mixes))
        return systems * (first + self.rounds * (saturated + loads))

    def lasting(self, mix: Mix) -> float:
        """Seconds of each of its loads. Unequal requests come seldom, and few of them are long."""
        return self.seconds if is_of_equals(mix) else LONGER * self.seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """One mix. By title, then by round: rounds in which a system failed are missing."""

    mix: Mix
    rate: float  # requests a second of which loads are shares
    saturations: Mapping[str, Sequence[Saturation]]
    outcomes: Mapping[float, Mapping[str, Sequence[Sequence[Outcome]]]]  # by share


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that was found."""

    measured: tuple[Measured, ...]
    fingerprints: dict[str, str]  # of what each system draws
    problems: tuple[str, ...]  # why rounds, or systems, are missing


def compare(
    systems: Sequence[System],
    settings: PeerSettings,
    plan: Plan,
    on_stage: OnStage,
    on_figure: OnFigure = lambda line: None,
) -> Comparison:
    """Measures them all; ``on_stage`` is called with each stage as it begins, ``on_figure`` with
    each figure in words."""
    stand = _Stand(settings, plan, on_stage, on_figure)
    for system in systems:
        stand.run(system, "for the first time", stand.first)
    known = [system for system in systems if system.title in stand.fingerprints]
    rates = plan.rates or tuple(stand.lowest(mix) for mix in plan.mixes if known)
    for number in range(1, plan.rounds + 1):
        stand.take_turns(known, f"round {number}", rates)
    measured = tuple(
        Measured(mix, rate, stand.saturations[mix.name], stand.outcomes[mix.name])
        for mix, rate in zip(plan.mixes, rates, strict=bool(known))
    )
    return Comparison(measured, stand.fingerprints, tuple(stand.problems))


@dataclass(slots=True)
class _Stand:
    """Runs systems, and keeps what was found."""

    settings: PeerSettings
    plan: Plan
    on_stage: OnStage
    on_figure: OnFigure
    problems: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)
    firsts: dict[tuple[str, str], float] = field(default_factory=dict)  # images/s: mix, title
    saturations: dict[str, dict[str, list[Saturation]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    outcomes: dict[str, dict[float, dict[str, list[list[Outcome]]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )

    def run(self, system: System, when: str, work: Work) -> None:
        """Starts the system, and does the work with it; a failure is a problem, and no end."""
        with self._noted(system, when), self._started(system, when) as service:
            asyncio.run(_with_client(system, service.url, work))

    def take_turns(self, systems: Sequence[System], when: str, rates: Sequence[float]) -> None:
        """All loads of every mix, each with one system after the other; one that fails is left out
        of what follows."""
        with ExitStack() as stack:
            services: dict[System, Running] = {}
            for system in systems:
                with self._noted(system, when):
                    services[system] = stack.enter_context(self._started(system, when))
                    services[system].pause()
            for work in self._loads(rates):
                for system in tuple(services):
                    service = services.pop(system)
                    with self._noted(system, when):
                        service.resume()
                        try:
                            asyncio.run(_with_client(system, service.url, work))
                        finally:  # one that failed takes no time from the others either
                            service.pause()
                        services[system] = service

    def _started(self, system: System, when: str) -> AbstractContextManager[Running]:
        self.on_stage(f"{system.title}: starting, {when}")
        return running(system, self.settings, samples(self.plan.steps)[0])

    @contextmanager
    def _noted(self, system: System, when: str) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            self._failed(f"{when}: {error}")
        except httpx.HTTPError as error:
            self._failed(f"{when}: {system.title}: {type(error).__name__}: {error}")

    def _loads(self, rates: Sequence[float]) -> Iterator[Work]:
        for mix, rate in zip(self.plan.mixes, rates, strict=True):
            for share in SHARES[mix.name]:
                yield partial(self._under_load, mix, rate, share)
            if is_of_equals(mix):
                yield partial(self._under_full_load, mix)

    def lowest(self, mix: Mix) -> float:
        """Requests a second of the slowest system, saturated."""
        found = [rate for (name, _), rate in self.firsts.items() if name == mix.name]
        return min(found) / mix.pictures_per_request

    async def first(self, title: str, send: Send) -> None:
        """What it draws, and delivers where rates are to be found.

        Raises `UserError` where it answers nothing.
        """
        drawn = await fingerprint(send, self.plan.steps)
        for mix in self.plan.first:
            found = await self._saturated(title, mix, send)
            self.firsts[mix.name, title] = found.images_per_second
        self.fingerprints[title] = drawn

    async def _under_load(
        self, mix: Mix, rate: float, share: float, title: str, send: Send
    ) -> None:
        self.on_stage(f"{title}: {mix.name}, {_load(share)}")
        await warm_up(send, mix.requests(SEED + 1), answers=WARM_UP)
        found = await self._loaded(mix, rate, share, send)
        self.outcomes[mix.name][share][title].append(found)
        p50 = percentile((one.latency for one in found), 0.5)
        self.on_figure(f"{title}, {mix.name}, {_load(share)}: p50 {_figure(p50)} s")

    async def _under_full_load(self, mix: Mix, title: str, send: Send) -> None:
        self.saturations[mix.name][title].append(await self._saturated(title, mix, send))

    async def _loaded(self, mix: Mix, rate: float, share: float, send: Send) -> list[Outcome]:
        if share == ALONE:
            return await one_by_one(send, mix.requests(SEED), seconds=self.plan.lasting(mix))
        plan: Iterable[Arrival] = arrivals(mix, share * rate, self.plan.lasting(mix), SEED)
        return await open_loop(send, plan)

    async def _saturated(self, title: str, mix: Mix, send: Send) -> Saturation:
        self.on_stage(f"{title}: {mix.name}, saturated")
        found = await closed_loop(
            send,
            mix.requests(SEED),
            in_flight=FULL * self.settings.pictures,
            after=WARM_UP,
            seconds=self.plan.saturation_seconds,
        )
        if not found.images_per_second:
            raise UserError(f"{title} answers no request of {mix.name} when it is saturated")
        rate = _figure(found.images_per_second)
        self.on_figure(f"{title}, {mix.name}, saturated: {rate} images/s")
        return found

    def _failed(self, problem: str) -> None:
        self.problems.append(problem)
        self.on_figure(problem)


async def _with_client(system: System, url: str, work: Work) -> None:
    async with load_client(url) as client:
        await work(system.title, sender(client, system.path, system.body))


def _load(share: float) -> str:
    return "alone" if share == ALONE else f"{share:.0%}"


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

SATURATED = "images/s, saturated"

TARGETS = {
    ("equal", SATURATED): 1.2,
    ("equal", "p50 alone, s"): 1.0,
    ("equal", "p50 at 30%, s"): 1.0,
    ("equal", "p50 at 70%, s"): 1.1,
    ("mixed", "p50 of the short ones at 70%, s"): 0.7,
    ("mixed", "p99 of the short ones at 70%, s"): 0.5,
}
"""Tessera's ÷ the best peer's: the least of images/s, the most of seconds. Printed only."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A row of a table: one figure of every system, in each round."""

    name: str
    values: Mapping[str, Sequence[float]]
    best: Callable[[Iterable[float]], float]  # min, or max where more is better
    target: float | None = None

    @property
    def ratios(self) -> list[float]:
        """Tessera's ÷ the best peer's, by round; none where one of them is missing.

        The best peer is the one with the best median.
        """
        peers = {
            title: statistics.median(values)
            for title, values in self.values.items()
            if title != TESSERA and values
        }
        mine = self.values.get(TESSERA, ())
        if not peers or not mine:
            return []
        best = self.best(peers.values())
        rival = next(title for title, median in peers.items() if median == best)
        return [one / other for one, other in zip(mine, self.values[rival], strict=False) if other]


def is_of_equals(mix: Mix) -> bool:
    """Whether all requests are alike. Only then are images/s counted when it is saturated: a system
    that puts off long ones would be credited for what it has not drawn, see `images_per_second`."""
    return len(mix.kinds) == 1


def measures(measured: Measured) -> Iterator[Measure]:
    """The rows of one mix that have a ratio."""
    mix = measured.mix

    def latency(
        name: str, share: float, part: float, only: Callable[[Outcome], bool] = lambda one: True
    ) -> Measure:
        at = "alone" if share == ALONE else f"at {_load(share)}"
        values = {
            title: [percentile((x.latency for x in found if only(x)), part) for found in rounds]
            for title, rounds in measured.outcomes.get(share, {}).items()
        }
        name = f"{name} {at}, s"
        return Measure(name, values, min, TARGETS.get((mix.name, name)))

    if measured.saturations:
        rates = {
            title: [one.images_per_second for one in found]
            for title, found in measured.saturations.items()
        }
        yield Measure(SATURATED, rates, max, TARGETS.get((mix.name, SATURATED)))
    for share in SHARES[mix.name]:
        yield latency("p50", share, 0.5)
        yield latency("p99", share, 0.99)
        if not is_of_equals(mix):
            short = "p{} of the short ones"
            yield latency(short.format(50), share, 0.5, lambda one: mix.is_short(one.request))
            yield latency(short.format(99), share, 0.99, lambda one: mix.is_short(one.request))


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


def plot(comparison: Comparison, titles: Sequence[str], path: Path) -> None:
    """Median latency against load: a line for a system, a panel for a mix of several loads."""
    from matplotlib.figure import Figure

    panels = [one for one in comparison.measured if len(one.outcomes) > 1]
    figure = Figure(figsize=(5 * max(1, len(panels)), 4), layout="constrained")
    for index, measured in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), index)
        for title in titles:
            points = [
                (share * measured.rate, _p50(rounds[title]))
                for share, rounds in sorted(measured.outcomes.items())
                if rounds.get(title)
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=title)
        axes.set_title(f"{measured.mix.name} requests")
        axes.set_xlabel("requests/s (0: one at a time)")
        axes.set_ylabel("p50, s")
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(path)


def _p50(rounds: Sequence[Sequence[Outcome]]) -> float:
    return statistics.median(percentile((x.latency for x in found), 0.5) for found in rounds)


def _described(measured: Measured) -> str:
    kinds = measured.mix.kinds
    total = sum(kind.weight for kind in kinds)
    shares = " and ".join(
        f"{kind.weight / total:.0%} with {kind.steps} steps, n = {kind.n}" for kind in kinds
    )
    return (
        f"{shares}. Loads are shares of {measured.rate:.2f} requests/s; "
        "*alone* is one request at a time. Latencies count from the planned arrival to the last "
        "byte; a request that failed took for ever. Medians of all rounds, the least and the most."
    )


def _table(measured: Measured, titles: Sequence[str]) -> Iterator[str]:
    yield f"| | {' | '.join(titles)} | {TESSERA} ÷ best peer | target |"
    yield f"| --- |{' ---: |' * (len(titles) + 2)}"
    for measure in measures(measured):
        cells = [_spread(measure.values.get(title, ())) for title in titles]
        sign = "≥" if measure.best is max else "≤"
        target = "" if measure.target is None else f"{sign} {measure.target:g}"
        row = " | ".join((*cells, _spread(measure.ratios), target))
        yield f"| {measure.name} | {row} |"
    kinds = (measured.saturations, *measured.outcomes.values())
    known = [title for title in titles if any(kind.get(title) for kind in kinds)]
    errors = {title: _errors(measured, title) for title in known}
    failed = " | ".join(str(len(errors[title])) if title in errors else "–" for title in titles)
    yield f"| failed | {failed} | | |"
    for title, found in errors.items():
        for error, count in Counter(found).most_common(1):
            yield from ("", f"{title}, {count} times: {error}")


def _errors(measured: Measured, title: str) -> list[str]:
    """Of all requests that failed."""
    saturated = [error for one in measured.saturations.get(title, ()) for error in one.errors]
    loads = [
        one.error
        for rounds in measured.outcomes.values()
        for found in rounds.get(title, ())
        for one in found
        if one.error
    ]
    return saturated + loads


def _spread(values: Sequence[float]) -> str:
    """The median, the least and the most."""
    if not values:
        return "–"
    middle = _figure(statistics.median(values))
    return f"{middle} ({_figure(min(values))} to {_figure(max(values))})" if values[1:] else middle


def _figure(value: float) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _pixels(fingerprints: Mapping[str, str]) -> str:
    if len(fingerprints) > 1 and len(set(fingerprints.values())) == 1:
        return "All drew the same pixels for the same prompt and seed."
    return "Pixels: " + ", ".join(f"{title} {hash_}" for title, hash_ in fingerprints.items()) + "."
