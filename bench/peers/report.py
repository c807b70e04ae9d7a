"""The comparison as Markdown: a table for each mix, with Tessera against the best of its peers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.load import Outcome, percentile
from bench.peers.measuring import SHARE, Comparison, Measured

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
