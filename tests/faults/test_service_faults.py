"""What clients see of the accidents: nothing but time. Real server, real worker, real model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.clients import PATIENCE, bodies, draw, draw_all, metric, until, workers
from tests.faults.conftest import Start
from tests.faults.poisoned import POISON
from tests.tiny import tiny_flow

pytestmark = pytest.mark.timeout(900)


async def test_a_worker_killed_during_many_requests(start: Start, full: bool) -> None:
    count, kills = (100, 3) if full else (32, 1)
    requests = bodies(count)
    with start() as service:
        service.await_ready()
        async with service.client() as http:
            undisturbed = await draw_all(http, requests)
            answers = asyncio.create_task(draw_all(http, requests))
            for kill in range(kills):

                async def at_work() -> bool:
                    return await metric(http, "rows_running") > 0

                await until(at_work)
                workers(service)[0].kill()

                async def restarted(kills: int = kill + 1) -> bool:
                    return await metric(http, "worker_restarts_total") == kills

                await until(restarted)
            assert await answers == undisturbed
            assert await metric(http, "worker_restarts_total") == kills
            assert await metric(http, "replays_total") > 0
            assert await metric(http, "rows_running") == 0


async def test_a_worker_killed_after_its_model_was_trained_further(
    start: Start, tmp_path: Path
) -> None:
    """The next worker loads what the digest is of, not what lies there by then."""
    model = tiny_flow(tmp_path / "mine")
    request = {"prompt": "red apple", "seed": 1}
    with start(MODELS=str(model)) as service:
        service.await_ready()
        async with service.client() as http:
            before = await draw(http, request)
            tiny_flow(model, seed=7)
            (model / "tokenizer.json").unlink()
            workers(service)[0].kill()

            async def restarted() -> bool:
                return await metric(http, "worker_restarts_total") == 1

            await until(restarted)
            after = await draw(http, request)
    assert before.status_code == after.status_code == 200
    assert after.content == before.content
    assert after.headers["x-tessera-model"] == before.headers["x-tessera-model"]


async def test_a_poisonous_row_fails_alone(start: Start) -> None:
    healthy = bodies(6)
    with start(("tests.faults.poisoned",)) as service:
        service.await_ready()
        async with service.client() as http:
            undisturbed = await draw_all(http, healthy)
            answers = asyncio.create_task(draw_all(http, healthy))
            poisoned = await draw(http, {"prompt": POISON, "seed": 1})
            assert poisoned.status_code == 500
            assert poisoned.json()["error"]["code"] == "worker_crashed"
            assert poisoned.headers["x-should-retry"] == "false"
            assert await answers == undisturbed
            again = await draw(http, {"prompt": POISON, "seed": 1})
            assert again.json()["error"]["code"] == "worker_crashed"
            assert await metric(http, "worker_restarts_total") == 4


async def test_a_stopped_worker_while_large_uploads_arrive(start: Start) -> None:
    requests = bodies(8)
    with start(STEP_TIMEOUT="3") as service:
        service.await_ready()
        async with service.client() as http:
            undisturbed = await draw_all(http, requests)
            workers(service)[0].send_signal(signal.SIGSTOP)
            answers = asyncio.create_task(draw_all(http, requests))
            uploads = [
                asyncio.create_task(http.post("/v1/images", content=b"x" * 10_000_000))
                for _ in range(4)
            ]
            slowest = 0.0
            async with service.client() as probe:
                await probe.get("/livez")  # opens the connection
                while not answers.done():
                    began = time.monotonic()
                    assert (await probe.get("/livez")).status_code == 200
                    slowest = max(slowest, time.monotonic() - began)
                    await asyncio.sleep(0.02)
            assert await answers == undisturbed
            await asyncio.gather(*uploads, return_exceptions=True)
            assert await metric(http, "worker_restarts_total") == 1
        # 10 ms were measured, with both cores busy; 3 s and more where the worker blocks the loop.
        assert slowest < 1.5, f"/livez took {slowest:.3f} s"


async def test_rows_of_clients_that_disconnect_leave_the_batch(start: Start) -> None:
    with start() as service:
        service.await_ready()
        async with service.client() as http:
            async with service.client() as leaving:
                waiting = [
                    asyncio.create_task(draw(leaving, body | {"steps": 100})) for body in bodies(50)
                ]

                async def all_there() -> bool:
                    rows = [await metric(http, f"rows_{where}") for where in ("waiting", "running")]
                    return sum(rows) == 50

                await until(all_there)
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

            async def nothing_left() -> bool:
                rows = [await metric(http, f"rows_{where}") for where in ("waiting", "running")]
                return sum(rows) == 0

            await until(nothing_left, seconds=5)
            # Some may have been finished before the last one had arrived; the rest never are.
            drawn = await metric(http, "images_total")
            assert await metric(http, "cancellations_total") == 50 - drawn
            assert drawn < 25


async def test_overload_is_answered_at_once_and_passes(start: Start) -> None:
    with start(MAX_ROWS_WAITING="10") as service:
        service.await_ready()
        async with service.client() as http:

            async def timed(seed: int) -> tuple[httpx.Response, float]:
                began = time.monotonic()
                answer = await draw(http, {"seed": seed, "steps": 100})
                return answer, time.monotonic() - began

            answers = await asyncio.gather(*(timed(seed) for seed in range(100)))
            refused = [(answer, took) for answer, took in answers if answer.status_code == 503]
            assert len(refused) + sum(answer.status_code == 200 for answer, _ in answers) == 100
            assert refused
            for answer, _ in refused:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["error"]["code"] == "queue_full"
            # At once, on any machine: before the first of those that were accepted is done.
            accepted = [took for answer, took in answers if answer.status_code == 200]
            assert min(took for _, took in refused) < min(accepted)
            assert await metric(http, "rejections_total") == len(refused)
            assert (await draw(http, {"seed": 1})).status_code == 200


async def test_sigterm_under_load_finishes_what_was_accepted(start: Start) -> None:
    requests = bodies(16)
    with start(DRAIN_DELAY="0.2") as service:
        service.await_ready()
        async with service.client() as http:
            answers = asyncio.create_task(draw_all(http, requests))
            await until(lambda: metric(http, "rows_running"))
            leftovers = workers(service)
            service.signal(signal.SIGTERM)
            assert len(await answers) == 16
        assert service.ended() == 0
    assert not any(worker.is_running() for worker in leftovers)


async def test_a_server_that_was_killed_and_started_again_answers_the_same(
    start: Start, unused_tcp_port: int
) -> None:
    requests = bodies(8)
    settings = {"PORT": str(unused_tcp_port)}
    with start(**settings) as service:
        service.await_ready()
        async with service.client() as http:
            undisturbed = await draw_all(http, requests)
            lost = asyncio.create_task(draw_all(http, requests))
            await until(lambda: metric(http, "rows_running"))
            orphans = workers(service)
            service.process.kill()
            service.process.wait()
            with contextlib.suppress(httpx.HTTPError):
                await lost
        url = service.url
    with start(**settings):
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:

            async def retried(body: dict[str, object]) -> bytes:
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        answer = await draw(http, body)
                        if answer.status_code == 200:
                            return answer.content
                    await asyncio.sleep(0.2)

            assert await asyncio.gather(*map(retried, requests)) == undisturbed
    for orphan in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert orphan.status() == psutil.STATUS_ZOMBIE


async def test_ctrl_c_at_a_terminal_drains_without_a_traceback(start: Start) -> None:
    # A terminal signals the whole group of processes, to which the workers must not belong.
    requests = bodies(8)
    with start() as service:
        service.await_ready()
        async with service.client() as http:
            answers = asyncio.create_task(draw_all(http, requests))
            await until(lambda: metric(http, "rows_running"))
            group = os.getpgid(service.process.pid)
            assert all(os.getpgid(worker.pid) != group for worker in workers(service))
            service.signal(signal.SIGINT)
            assert len(await answers) == 8
        assert service.ended() == 0
        assert "Traceback" not in service.log
