"""A fleet, simulated: replicas, their queues and memories, and what spreads requests over them.

Each replica has a front (the API process, one answer after the other), a memory of finished images,
a bounded queue, and a worker that steps a batch which rows join and leave at any step. A step takes
what was measured for the smallest pass that holds its rows. `bench.scale` asks it what breaks.

Left out: networks, encoding, what the events of a step cost the front.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections import OrderedDict, deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import simpy

TRIES = 3
"""Replicas that a balancer asks until one takes the request."""

Steps = Generator[simpy.Event, Any, Any]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Equal replicas, and what spreads requests over them. Times are from docs/performance.md."""

    replicas: int = 2
    step_seconds: Mapping[int, float] = field(
        default_factory=lambda: {2: 0.0113, 4: 0.0174, 8: 0.0302}
    )  # of a pass, by its size in evaluations
    cost: int = 2  # evaluations of a row's step
    answer_seconds: float = 1 / 2440  # of the front, for an image that is in memory
    waiting: int = 256  # TESSERA_MAX_ROWS_WAITING
    kept: int = 4000  # images in a replica's memory
    deadline: float = 120.0  # TESSERA_REQUEST_TIMEOUT
    start_seconds: float = 3.0  # until one that died is ready again
    by_address: bool = True  # else to the less busy of two, as Envoy does
    cache: bool = False  # whether the balancers keep images

    @property
    def slots(self) -> int:
        """Rows under way in one replica."""
        return max(self.step_seconds) // self.cost


@dataclass(frozen=True, slots=True)
class Load:
    """Requests for images: those that nobody has seen, and repeats by Zipf's law."""

    rate: float = 35.0  # requests a second: a million a day, three times as many at the peak
    seconds: float = 10.0
    steps: int = 20
    repeats: float = 0.8  # share of requests for an address that was drawn before
    addresses: int = 10_000  # of repeats; number k is asked for in proportion to 1 / (k + 1)
    burst: float = 1.0  # in half of the time, the rate is so many times as high; below 2
    deaths: int = 0  # replicas that are killed half way


@dataclass(slots=True, eq=False)
class Row:
    """An image in the making; those who ask for it wait for ``done``: whether it was drawn."""

    address: int
    left: int  # steps
    done: simpy.Event


class Replica:
    """A front, a memory, a queue and a worker."""

    def __init__(self, env: simpy.Environment, fleet: Fleet) -> None:
        self.env, self.fleet = env, fleet
        self.front = simpy.Resource(env)
        self.kept: OrderedDict[int, None] = OrderedDict()
        self.known = 0  # addresses below it have been in memory from the beginning
        self.live: dict[int, Row] = {}
        self.waiting: deque[Row] = deque()
        self.running: list[Row] = []
        self.wake = env.event()
        self.up = True
        self.busy = self.answering = 0.0  # seconds of the worker, of the front
        self.drawn = 0
        self.worker = env.process(self.work())

    @property
    def load(self) -> int:
        return len(self.live) + self.front.count + len(self.front.queue)

    def take(self, address: int, steps: int) -> Row | None:
        """The row that will be the image; None where the queue is full."""
        if row := self.live.get(address):
            return row
        if len(self.waiting) >= self.fleet.waiting:
            return None
        row = self.live[address] = Row(address, steps, self.env.event())
        self.waiting.append(row)
        if not self.wake.triggered:
            self.wake.succeed()
        return row

    def leave(self, row: Row) -> None:
        """Nobody waits for it any longer."""
        if self.live.get(row.address) is row:
            del self.live[row.address]
            (self.waiting if row in self.waiting else self.running).remove(row)

    def work(self) -> Steps:
        sizes = sorted(self.fleet.step_seconds)
        while True:
            try:
                while not (self.waiting or self.running):
                    self.wake = self.env.event()
                    yield self.wake
                while self.waiting and len(self.running) < self.fleet.slots:
                    self.running.append(self.waiting.popleft())
                holds = sizes[bisect(sizes, len(self.running) * self.fleet.cost - 1)]
                rows = tuple(self.running)
                yield self.env.timeout(self.fleet.step_seconds[holds])
                self.busy += self.fleet.step_seconds[holds]
                for row in rows:
                    row.left -= 1
                    if not row.left:
                        self.finish(row)
            except simpy.Interrupt:  # killed
                self.up = False
                lost = list(self.live.values())
                self.live, self.running = {}, []
                self.waiting.clear()
                self.kept.clear()
                self.known = 0
                for row in lost:
                    row.done.succeed(False)
                yield self.env.timeout(self.fleet.start_seconds)
                self.up = True

    def finish(self, row: Row) -> None:
        if self.live.get(row.address) is row:
            self.leave(row)
            self.drawn += 1
            self.keep(row.address)
            row.done.succeed(True)

    def keep(self, address: int) -> None:
        self.kept[address] = None
        if len(self.kept) > self.fleet.kept:
            self.kept.popitem(last=False)


@dataclass(slots=True)
class Seen:
    """What became of all requests. Latencies are of those that were answered, in seconds."""

    latencies: list[float] = field(default_factory=list)
    drawn: int = 0
    refused: int = 0  # 503
    late: int = 0  # 504
    worker: float = 0.0  # share of the time in which workers stepped
    busiest_worker: float = 0.0
    busiest_front: float = 0.0

    @property
    def requests(self) -> int:
        return len(self.latencies) + self.refused + self.late


class Simulation:
    """Runs requests through a fleet."""

    def __init__(self, fleet: Fleet, load: Load, seed: int = 1) -> None:
        self.fleet, self.load = fleet, load
        self.draw = random.Random(f"choices {seed}")
        self.coming = random.Random(f"arrivals {seed}")  # the same, whatever the fleet
        self.env = simpy.Environment()
        self.replicas = [Replica(self.env, fleet) for _ in range(fleet.replicas)]
        self.seen = Seen()
        self.ended = 0.0  # when the last request was answered
        self.cached: set[int] = set()
        self.popular = list(accumulate(1 / (k + 1) for k in range(load.addresses)))

    def run(self) -> Seen:
        """The load that `Load` describes, with memories and caches as they would be by then."""
        self.fill()
        self.env.process(self.deaths())
        return self.follow(self.arriving())

    def follow(self, plan: Iterator[tuple[float, int, int]]) -> Seen:
        """Requests by when they come, address and steps, until all have been answered."""
        self.env.process(self.send(plan))
        self.env.run()
        seen, seconds = self.seen, self.ended
        busy = [replica.busy / seconds for replica in self.replicas]
        seen.drawn = sum(replica.drawn for replica in self.replicas)
        seen.worker, seen.busiest_worker = sum(busy) / len(busy), max(busy)
        seen.busiest_front = max(replica.answering for replica in self.replicas) / seconds
        return seen

    def fill(self) -> None:
        if self.fleet.cache:
            self.cached.update(range(self.load.addresses))
        elif self.fleet.by_address:
            for address in reversed(range(self.load.addresses)):
                self.replicas[next(self.order(address))].keep(address)
        else:
            for replica in self.replicas:
                replica.known = min(self.fleet.kept, self.load.addresses)

    def arriving(self) -> Iterator[tuple[float, int, int]]:
        load, at, until, rate = self.load, 0.0, 0.0, self.load.rate
        new = load.addresses
        while at < load.seconds:
            if at >= until and load.burst > 1:
                until = at + self.coming.expovariate(1.0)
                high = self.coming.random() < 0.5
                rate = load.rate * (load.burst if high else 2 - load.burst)
            at += self.coming.expovariate(rate)
            if self.coming.random() < load.repeats:
                point = self.coming.random() * self.popular[-1]
                yield at, bisect(self.popular, point), load.steps
            else:
                new += 1
                yield at, new, load.steps

    def deaths(self) -> Steps:
        yield self.env.timeout(self.load.seconds / 2)
        for replica in self.draw.sample(self.replicas, self.load.deaths):
            replica.worker.interrupt()

    def order(self, address: int) -> Iterator[int]:
        """Replicas in the order in which the balancer asks them."""
        count = len(self.replicas)
        if self.fleet.by_address:
            first = random.Random(address).randrange(count)
        else:
            some = [self.draw.randrange(count) for _ in range(2)]
            first = min(some, key=lambda one: (not self.replicas[one].up, self.replicas[one].load))
        for other in range(count):
            yield (first + other) % count

    def send(self, plan: Iterator[tuple[float, int, int]]) -> Steps:
        for at, address, steps in plan:
            yield self.env.timeout(max(0.0, at - self.env.now))
            self.env.process(self.ask(address, steps))

    def answered(self, began: float) -> None:
        self.seen.latencies.append(self.env.now - began)
        self.ended = self.env.now

    def ask(self, address: int, steps: int) -> Steps:
        began, tries = self.env.now, 0
        if address in self.cached:
            self.answered(began)
            return
        for index in self.order(address):
            replica = self.replicas[index]
            if not replica.up:
                continue  # its connections are refused at once
            tries += 1
            if tries > TRIES:
                break
            with replica.front.request() as turn:
                yield turn
                yield self.env.timeout(self.fleet.answer_seconds)
                replica.answering += self.fleet.answer_seconds
            if address in replica.kept:
                replica.kept.move_to_end(address)
            elif address < replica.known:
                pass
            elif (row := replica.take(address, steps)) is None:
                continue
            else:
                left = began + self.fleet.deadline - self.env.now
                yield row.done | self.env.timeout(max(0.0, left))
                if not row.done.triggered:
                    replica.leave(row)
                    self.seen.late += 1
                    self.ended = self.env.now
                    return
                if not row.done.value:
                    continue  # the replica died
            self.answered(began)
            if self.fleet.cache:
                self.cached.add(address)
            return
        self.seen.refused += 1
        self.ended = self.env.now
