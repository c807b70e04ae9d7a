"""How many repeated image addresses reach a model, by how a balancer spreads them over replicas.

    python -m bench.routing [--replicas 3] [--addresses 300] [--requests 3000] [--kept 100]

Real services with a tiny model behind the real nginx and the real Envoy of deploy/. Addresses are
as popular as words are (Zipf's law), and asked for by many clients at once. A request is a repeat
if its address was asked for before; it should cost a look into a memory, not a drawing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import httpx

from tests.deploy.fleet import BALANCERS, Deployment, fleet, free_ports
from tests.tiny import tiny_flow

ENTRY = 1024 + 1024
"""Bytes that a file of the tiny model takes in a replica's memory, about."""


@dataclass(frozen=True, slots=True)
class Routing:
    """One way of spreading, as a change of what deploy/ has."""

    name: str
    balancer: str
    changes: tuple[tuple[str, str], ...] = ()


NO_CACHE = ("proxy_cache images;", "proxy_cache off;")
ROUTINGS = (
    Routing("nginx, by load", "nginx", (NO_CACHE, ("hash $request_uri consistent;", ""))),
    Routing("nginx, by address", "nginx", (NO_CACHE,)),
    Routing("nginx, by address, with its cache", "nginx"),
    Routing("Envoy, by load", "envoy", (("lb_policy: RING_HASH", "lb_policy: LEAST_REQUEST"),)),
    Routing("Envoy, by address", "envoy"),
)


def popular(addresses: int, requests: int, seed: int) -> list[int]:
    """So many numbers below ``addresses``; number k is drawn in proportion to 1 / (k + 1)."""
    weights = list(accumulate(1 / (k + 1) for k in range(addresses)))
    return random.Random(seed).choices(range(addresses), cum_weights=weights, k=requests)


async def ask(deployment: Deployment, seeds: Sequence[int], clients: int) -> int:
    """Asks for the addresses, and returns how many images were drawn for it."""
    before = deployment.metric("images_total")
    order = iter(seeds)

    async def client(http: httpx.AsyncClient) -> None:
        for seed in order:
            answer = await http.get(f"/v1/images/{seed}.png")
            answer.raise_for_status()

    async with deployment.client() as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    return round(deployment.metric("images_total") - before)


def program(name: str) -> str:
    """A program on the PATH, beside this Python or where Debian keeps servers."""
    found = shutil.which(name) or shutil.which(
        name, path=f"{Path(sys.executable).parent}:/usr/sbin"
    )
    if found is None:
        sys.exit(f"the program {name!r} is not installed")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--addresses", type=int, default=300)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--kept", type=int, default=100, help="files in each replica's memory")
    parser.add_argument("--clients", type=int, default=16)
    asked = parser.parse_args()

    seeds = popular(asked.addresses, asked.requests, seed=1)
    distinct = len(set(seeds))
    repeats = len(seeds) - distinct
    print(
        f"{len(seeds)} requests, {distinct} addresses, {repeats} repeats; {asked.replicas} replicas"
    )
    print("| spread | images drawn | repeats that reach a model |\n| --- | --- | --- |")
    for routing in ROUTINGS:
        path = program(routing.balancer)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = tiny_flow(folder / "tiny")
            memory = {"CACHE_BYTES": "0", "FILE_CACHE_BYTES": str(asked.kept * ENTRY)}
            start = BALANCERS[routing.balancer]
            with (
                fleet(model, folder, free_ports(asked.replicas), **memory) as replicas,
                start(path, folder, [each.port for each in replicas], *routing.changes) as url,
            ):
                deployment = Deployment(routing.balancer, url, replicas)
                drawn = asyncio.run(ask(deployment, seeds, asked.clients))
        print(f"| {routing.name} | {drawn} | {(drawn - distinct) / repeats:.1%} |", flush=True)


if __name__ == "__main__":
    main()
