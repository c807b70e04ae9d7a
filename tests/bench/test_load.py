"""If these fail, a comparison with peers flatters somebody: other loads, or latencies that hide
what a stalled server does to those who wait.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope
from starlette.types import Send as Reply

from bench.load import (
    Arrival,
    Kind,
    LoadRequest,
    Mix,
    Outcome,
    Saturation,
    arrivals,
    closed_loop,
    images_per_second,
    load_client,
    mixes,
    open_loop,
    percentile,
    sender,
    warm_up,
)
from bench.peers.measuring import Comparison, Measure, Measured, measures, report
from bench.served import lean_sender
from model.registry import open_checkpoint
from tests.tiny import tiny_flow, tiny_gan

EQUAL = Mix("equal", (Kind(20, 1),))
MIXED = Mix("mixed", (Kind(8, 1, weight=9), Kind(50, 8, weight=1)))
ONE = LoadRequest("red apple", 7, 20, 1)


class Slow:
    """An ASGI app that answers one request at a time, each after ``seconds``.

    The first blocks the whole server for ``stall``: whoever comes then is not even accepted.
    """

    def __init__(self, seconds: float = 0.0, stall: float = 0.0, status: int = 200) -> None:
        self.answered = 0
        self.most = 0  # requests at once
        self._seconds, self._stall, self._status = seconds, stall, status
        self._lock = asyncio.Lock()
        self._here = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Reply) -> None:
        self._here += 1
        self.most = max(self.most, self._here)
        stall, self._stall = self._stall, 0.0
        time.sleep(stall)  # noqa: ASYNC251 - the loop shall stand still
        async with self._lock:
            await asyncio.sleep(self._seconds)
        self._here -= 1
        self.answered += 1
        head = [(b"Content-Length", b"7")]
        await send({"type": "http.response.start", "status": self._status, "headers": head})
        await send({"type": "http.response.body", "body": b"picture"})


@contextmanager
def served(app: Slow) -> Iterator[str]:
    """The app's address, while it runs on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", ws="none", log_level="critical")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_the_lean_client_keeps_its_connections_and_says_what_failed() -> None:
    async def ask(url: str, times: int) -> list[bytes]:
        async with lean_sender(url) as send:
            together = await asyncio.gather(*(send(ONE) for _ in range(times)))
            return [*together, await send(ONE)]

    with served(Slow()) as url:
        assert asyncio.run(ask(url, 3)) == [b"picture"] * 4
    with served(Slow(status=503)) as url, pytest.raises(httpx.HTTPError, match="503"):
        asyncio.run(ask(url, 1))


def test_arrivals_and_requests_are_the_same_for_everyone() -> None:
    first, again = (list(arrivals(MIXED, 5, 60, seed=3)) for _ in range(2))
    assert first == again
    assert first != list(arrivals(MIXED, 5, 60, seed=4))


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    assert list(arrivals(MIXED, 5, 90, seed=0))[:100] == list(arrivals(MIXED, 5, 60, seed=0))[:100]


def test_arrivals_are_a_poisson_process() -> None:
    times = [each.at for each in arrivals(EQUAL, 50, 400, seed=0)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times == sorted(times)
    assert times[-1] < 400
    # Fixed seed. Of a Poisson process: 20,000 ± 141 arrivals; gaps whose deviation is their mean.
    assert len(times) == pytest.approx(20_000, abs=3 * 141)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.03)
    late = [gap for gap in gaps if gap > 0.02]
    assert len(late) / len(gaps) == pytest.approx(math.exp(-1), rel=0.03)


def test_every_round_of_a_mix_has_its_shares() -> None:
    requests = list(itertools.islice(MIXED.requests(0), 1000))
    rounds = [requests[start : start + 10] for start in range(0, 1000, 10)]
    assert all(sum(MIXED.is_short(each) for each in round_) == 9 for round_ in rounds)
    places = {[MIXED.is_short(each) for each in round_].index(False) for round_ in rounds}
    assert places == set(range(10))  # but not always in one place
    assert MIXED.pictures_per_request == 1.7


def test_no_two_requests_share_a_picture() -> None:
    requests = list(itertools.islice(MIXED.requests(0), 500))
    seeds = [each.seed + k for each in requests for k in range(each.n)]
    assert len(set(seeds)) == len(seeds)


def test_latency_counts_from_the_planned_arrival_through_a_stall() -> None:
    plan = [Arrival(at / 20, ONE) for at in range(10)]  # twenty a second
    app = Slow(stall=1.0)
    with served(app) as url:
        outcomes = asyncio.run(_open(url, plan))
    # The last one was to come 0.45 s after the beginning, and met the stall all the same. A loop
    # that waits for an answer before it sends the next would report one slow request of ten.
    assert [one.began for one in outcomes] == [arrival.at for arrival in plan]
    assert outcomes[0].latency >= 1.0
    assert min(one.latency for one in outcomes) >= 0.5


def test_latency_counts_what_the_client_holds_back() -> None:
    plan = [Arrival(0.0, ONE)] * 4
    with served(Slow(seconds=0.1)) as url:
        outcomes = asyncio.run(_open(url, plan, httpx.Limits(max_connections=1)))
    latencies = sorted(one.latency for one in outcomes)
    assert all(latency >= 0.1 * turn for turn, latency in enumerate(latencies, 1))


def test_an_open_loop_does_not_wait_for_answers() -> None:
    plan = [Arrival(0.01 * at, ONE) for at in range(20)]
    app = Slow(seconds=0.05)  # as it draws one after the other, they pile up
    with served(app) as url:
        asyncio.run(_open(url, plan))
    assert app.answered == 20
    assert app.most >= 10


def test_what_fails_is_counted_and_took_for_ever() -> None:
    with served(Slow(status=503)) as url:
        (refused,) = asyncio.run(_open(url, [Arrival(0.0, ONE)]))
    (unreachable,) = asyncio.run(_open(url, [Arrival(0.0, ONE)]))
    assert "503" in refused.error
    assert "ConnectError" in unreachable.error
    assert refused.latency == unreachable.latency == math.inf


def test_a_closed_loop_keeps_so_many_in_flight_and_measures_the_rate() -> None:
    app = Slow(seconds=0.02)
    with served(app) as url:
        saturation = asyncio.run(_closed(url, in_flight=5, after=10, seconds=1.0))
    assert saturation.errors == ()
    assert app.most == 5
    # At most one in 20 ms, and five that lie on the edges; a busy machine is slower. Ten come
    # before, and five after.
    assert (app.answered - 20) / 2 <= saturation.images_per_second <= 55
    assert saturation.images_per_second > 0


def test_a_closed_loop_tells_of_failures() -> None:
    with served(Slow(seconds=0.01, status=500)) as url:
        saturation = asyncio.run(_closed(url, in_flight=2, after=1, seconds=0.1))
    assert saturation.images_per_second == 0
    assert all("500" in error for error in saturation.errors)
    assert saturation.errors


def test_warming_up_takes_so_many_answers() -> None:
    app = Slow()

    async def warm(url: str) -> None:
        async with load_client(url) as client:
            await warm_up(sender(client, "/"), EQUAL.requests(0), answers=7)

    with served(app) as url:
        asyncio.run(warm(url))
    assert (app.answered, app.most) == (7, 1)


def test_pictures_count_by_their_time_within() -> None:
    eight = LoadRequest("", 0, 50, 8)
    outcomes = [
        Outcome(ONE, 1.0, 2.0),  # all of it
        Outcome(eight, 3.0, 7.0),  # a quarter: two pictures
        Outcome(ONE, -1.0, 1.0),  # half
        Outcome(ONE, 0.5, 3.5, error="refused"),
        Outcome(ONE, 5.0, 6.0),
    ]
    assert images_per_second(outcomes, 0.0, 4.0) == (1 + 2 + 0.5) / 4


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1.0, 100)]
)
def test_percentiles_are_values_that_were_measured(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_percentiles_of_few_and_of_none() -> None:
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([1.0, math.inf], 0.99) == math.inf
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize(
    ("best", "values", "ratio"),
    [
        (min, {"Tessera": [0.6], "A": [2.0], "B": [1.0]}, [0.6]),
        (max, {"Tessera": [3.0], "A": [2.0], "B": [1.0]}, [1.5]),
        (min, {"Tessera": [0.6], "A": [math.inf], "B": [1.0]}, [0.6]),
        (min, {"Tessera": [math.inf], "A": [1.0]}, [math.inf]),
        (min, {"Tessera": [1.0]}, []),
        (min, {"A": [1.0]}, []),
        (min, {"Tessera": [1.0], "A": [math.inf]}, [0.0]),
        # The best peer is one and the same in all rounds, that of the best median.
        (min, {"Tessera": [1, 1, 1], "A": [2, 4, 4], "B": [5, 3, 5]}, [0.5, 0.25, 0.25]),
    ],
)
def test_tessera_is_compared_with_the_best_peer(
    best: Callable[[Iterable[float]], float], values: dict[str, list[float]], ratio: list[float]
) -> None:
    assert Measure("", values, best).ratios == pytest.approx(ratio)


def test_the_report_has_every_figure_ratio_and_target() -> None:
    short, long = LoadRequest("", 0, 8, 1), LoadRequest("", 1, 50, 8)

    def outcomes(quick: float, slow: float, error: str = "") -> list[Outcome]:
        return [
            *(Outcome(short, 1, 1 + quick) for _ in range(9)),
            Outcome(long, 1, 1 + slow, error),
        ]

    measured = Measured(
        MIXED,
        rate=2.5,
        saturations={
            "Tessera": [Saturation(6.0, ()), Saturation(7.0, ())],
            "A": [Saturation(5.0, ()), Saturation(5.0, ())],
            "B": [Saturation(4.0, ("HTTPStatusError: 500",))],
        },
        outcomes={
            0.7: {
                "Tessera": [outcomes(0.5, 3), outcomes(0.6, 3)],
                "A": [outcomes(1.0, 2), outcomes(1.0, 2)],
                "B": [outcomes(2, 9, "late")],
            }
        },
    )
    figures = {each.name: each.ratios for each in measures(measured)}
    assert figures == {
        "images/s, saturated": [1.2, 1.4],
        "p50 at 70%, s": pytest.approx([0.5, 0.6]),
        "p99 at 70%, s": [1.5, 1.5],
        "p50 of the short ones at 70%, s": pytest.approx([0.5, 0.6]),
        "p99 of the short ones at 70%, s": pytest.approx([0.5, 0.6]),
    }
    comparison = Comparison((measured,), {"Tessera": "aa", "A": "aa", "B": "bb"}, ("C: gone",))
    lines = list(report(comparison, ["Tessera", "A", "B", "C"], {"threads": "2"}))
    assert "| threads | 2 |" in lines
    assert "| | Tessera | A | B | C | Tessera ÷ best peer | target |" in lines
    assert (
        "| p50 of the short ones at 70%, s | 0.550 (0.500 to 0.600) | 1.00 (1.00 to 1.00) "
        "| 2.00 | – | 0.550 (0.500 to 0.600) | ≤ 0.7 |"
    ) in lines
    assert (
        "| p99 at 70%, s | 3.00 (3.00 to 3.00) | 2.00 (2.00 to 2.00) | ∞ | – "
        "| 1.50 (1.50 to 1.50) |  |"
    ) in lines
    assert "| failed | 0 | 0 | 2 | – | | |" in lines
    assert "Pixels: Tessera aa, A aa, B bb." in lines
    assert "* C: gone" in lines
    without = list(
        report(replace(comparison, measured=(replace(measured, saturations={}),)), ["A", "B"], {})
    )
    assert "| failed | 0 | 1 | | |" in without
    assert not any(line.startswith("| images/s") for line in without)


def test_a_mix_whose_steps_the_model_does_not_have_is_left_out(tmp_path: Path) -> None:
    flow, gan = (open_checkpoint(make(tmp_path / make.__name__)) for make in (tiny_flow, tiny_gan))
    equal, mixed = mixes(flow.spec)
    assert equal.kinds == (Kind(4, 1),)  # the checkpoint's own default
    assert mixed == MIXED
    assert mixes(gan.spec) == (Mix("equal", (Kind(1, 1),)),)


async def _open(url: str, plan: list[Arrival], limits: httpx.Limits | None = None) -> list[Outcome]:
    client = load_client(url) if limits is None else httpx.AsyncClient(base_url=url, limits=limits)
    async with client:
        return await open_loop(sender(client, "/"), plan)


async def _closed(url: str, *, in_flight: int, after: int, seconds: float) -> Saturation:
    async with load_client(url) as client:
        return await closed_loop(
            sender(client, "/"),
            EQUAL.requests(0),
            in_flight=in_flight,
            after=after,
            seconds=seconds,
        )
