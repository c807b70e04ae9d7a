"""The measurement: every system saturated by every mix, then all at one rate that each can bear.

Only one system runs at a time. Each is started twice, as the rate depends on the slowest of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx

from app.cli.console import UserError
from bench.load import (
    Mix,
    Outcome,
    Saturation,
    Send,
    arrivals,
    closed_loop,
    load_client,
    open_loop,
    sender,
    warm_up,
)
from bench.peers.drawing import PeerSettings
from bench.peers.pixels import fingerprint, samples
from bench.peers.process import running
from bench.peers.systems import System

SHARE = 0.7
"""Of the lowest saturation: the rate in the open loop."""

FULL = 2
"""How often the requests in flight fill the tile, where a system is to be saturated."""

WARM_UP = 16
"""Answers that are not measured. BentoML draws its first dozen one by one, to learn their times."""

SEED = 0

Tell = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    mixes: tuple[Mix, ...]
    steps: int  # of the pictures that are compared
    seconds: float  # of the open loop
    saturation_seconds: float

    def stages(self, systems: int) -> int:
        """How many `compare` tells of."""
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
    systems: Sequence[System], settings: PeerSettings, plan: Plan, tell: Tell
) -> Comparison:
    """Measures them all; ``tell`` hears of each stage as it begins."""
    stand = _Stand(settings, plan, tell)
    saturated = stand.run(systems, stand.saturate)
    rates = [
        SHARE
        * min(one.saturations[place].images_per_second for one in saturated.values())
        / mix.pictures_per_request
        for place, mix in enumerate(plan.mixes if saturated else ())
    ]
    borne = stand.run(saturated, partial(stand.bear, rates=rates))
    measured = tuple(
        Measured(
            mix=plan.mixes[place],
            rate=rate,
            saturations={each.title: one.saturations[place] for each, one in saturated.items()},
            outcomes={each.title: found[place] for each, found in borne.items()},
        )
        for place, rate in enumerate(rates)
    )
    fingerprints = {each.title: one.fingerprint for each, one in saturated.items()}
    return Comparison(measured, fingerprints, tuple(stand.problems))


@dataclass(frozen=True, slots=True)
class _Saturated:
    fingerprint: str
    saturations: list[Saturation]  # by mix


class _Stand:
    """Where one system after the other is put to work."""

    def __init__(self, settings: PeerSettings, plan: Plan, tell: Tell) -> None:
        self.problems: list[str] = []
        self._settings = settings
        self._plan = plan
        self._tell = tell
        self._in_flight = FULL * settings.pictures

    def run(
        self, systems: Iterable[System], work: Callable[[str, Send], Awaitable[T]]
    ) -> dict[System, T]:
        """What the work found of each system that could be started and did it."""
        found = {}
        for system in systems:
            self._tell(f"{system.title}: starting")
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
            self._tell(f"{title}: {mix.name}, saturated")
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

    async def bear(self, title: str, send: Send, rates: Sequence[float]) -> list[list[Outcome]]:
        """What became of the requests of every mix."""
        outcomes = []
        for mix, rate in zip(self._plan.mixes, rates, strict=True):
            self._tell(f"{title}: {mix.name}, {rate:.2f} requests/s")
            await warm_up(send, mix.requests(SEED + 1), answers=WARM_UP)
            outcomes.append(await open_loop(send, arrivals(mix, rate, self._plan.seconds, SEED)))
        return outcomes


async def _with_client(system: System, url: str, work: Callable[[str, Send], Awaitable[T]]) -> T:
    async with load_client(url) as client:
        return await work(system.title, sender(client, system.path, system.body))
