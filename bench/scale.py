"""What breaks first where many more ask, by simulation (`bench.simulation`).

    python -m bench.scale [--factors 1 10 100 1000] [--seconds 10]
    python -m bench.scale --validate 40

The load of a small deployment, and so many times of it with as many times the replicas.
``--validate`` compares the simulation with one real service on this machine: the same arrivals, and
step times measured just before.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.load import Kind, Mix, arrivals, load_client, open_loop, percentile, sender, warm_up
from bench.simulation import Fleet, Load, Simulation

H200 = {2: 0.00143 / 0.73, 8: 0.00171 / 0.73, 32: 0.00293 / 0.73}
"""A GPU's passes, with what the engine takes besides: it delivers 0.73 of the bare loop."""


def scenarios(factors: Sequence[int], seconds: float) -> Iterator[tuple[str, Fleet, Load]]:
    """The small deployment, so many times of it, and the largest in other conditions."""
    most = max(factors)
    for factor in factors:
        load = Load(rate=35.0 * factor, seconds=seconds)
        for how, fleet in (
            ("by load", Fleet(2 * factor, by_address=False)),
            ("by address", Fleet(2 * factor)),
            ("by address, cache", Fleet(2 * factor, cache=True)),
        ):
            yield f"{factor} x, {how}", fleet, load
    load = Load(rate=35.0 * most, seconds=seconds)
    cached = Fleet(2 * most, cache=True)
    yield f"{most} x, cache, bursts of 1.8", cached, replace(load, burst=1.8)
    yield f"{most} x, cache, a tenth die", cached, replace(load, deaths=cached.replicas // 10)
    gpus = max(1, round(most * 0.05))
    graphs = Fleet(gpus, H200)
    yield f"{most} x, {gpus} H200, by address", graphs, load
    yield f"{most} x, {gpus} H200, cache", replace(graphs, cache=True), load


def measured_steps(sizes: Sequence[int], seconds: float = 2.0) -> dict[int, float]:
    """Seconds of a full pass of each size, of the default model on one thread of this machine."""
    from model.loading import load_model
    from model.registry import open_checkpoint, shipped
    from model.runtime.benchmark import measure
    from model.runtime.numerics import configure_determinism

    configure_determinism("cpu", 1)
    checkpoint = open_checkpoint(shipped()[0])
    return {
        size: measure(
            load_model(checkpoint, device="cpu", dtype="auto", tile=size), seconds
        ).step_seconds
        for size in sizes
    }


def validate(seconds: float, table: Table) -> None:
    """One real service and one simulated, with the same arrivals at 70 % of saturation."""
    from tests.service.running import running

    mix = Mix("short", (Kind(8, 1),))
    with tempfile.TemporaryDirectory() as name:
        settings = {"DTYPE": "auto", "CACHE_BYTES": "0", "FILE_CACHE_BYTES": "0"}
        with running(Path("emoji-flow"), Path(name) / "log", **settings) as service:
            service.await_ready(300)
            times = measured_steps((2, 4, 8))
            rate = 0.7 * 4 / times[8] / 9
            plan = list(arrivals(mix, rate, seconds, seed=1))

            async def load() -> list[float]:
                async with load_client(service.url) as client:
                    send = sender(client, "/v1/images")
                    await warm_up(send, mix.requests(seed=2), answers=5)
                    outcomes = await open_loop(send, plan)
                assert not any(outcome.error for outcome in outcomes)
                return [outcome.latency for outcome in outcomes]

            real = asyncio.run(load())
    fleet = Fleet(1, times)
    # A row reads its prompt in a pass of its own before its first step.
    simulated = Simulation(fleet, Load()).follow(
        (one.at, k, one.request.steps + 1) for k, one in enumerate(plan)
    )
    table.title = f"{len(plan)} requests, {rate:.2f}/s; steps " + ", ".join(
        f"{size}: {1000 * took:.1f} ms" for size, took in times.items()
    )
    for name, latencies in (("real", real), ("simulated", simulated.latencies)):
        table.add_row(name, *(f"{1000 * percentile(latencies, q):.0f}" for q in (0.5, 0.9, 0.99)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=10.0, help="of simulated time")
    parser.add_argument("--validate", type=float, metavar="SECONDS", help="beside a real service")
    given = parser.parse_args()
    if given.validate:
        table = Table("service", "p50 ms", "p90 ms", "p99 ms")
        validate(given.validate, table)
        Console(width=120).print(table)
        return
    names = ("drawn", "refused", "late", "p50 ms", "p99 ms", "workers", "busiest", "busiest front")
    table = Table("load", "replicas", *names)
    for name, fleet, load in scenarios(given.factors, given.seconds):
        began = time.monotonic()
        seen = Simulation(fleet, load).run()
        shares = (
            seen.drawn / seen.requests,
            seen.refused / seen.requests,
            seen.late / seen.requests,
        )
        times = (1000 * percentile(seen.latencies, share) for share in (0.5, 0.99))
        uses = (seen.worker, seen.busiest_worker, seen.busiest_front)
        table.add_row(
            name,
            str(fleet.replicas),
            *(f"{share:.1%}" for share in shares),
            *(f"{took:.1f}" for took in times),
            *(f"{use:.0%}" for use in uses),
        )
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
