"""If these fail, a service that runs for long grows until something kills it."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tests.faults.clients import draw, metric
from tests.faults.conftest import Start
from tests.service.raw import connect, large_edit, received
from tests.service.running import Service

pytestmark = pytest.mark.timeout(900)


def resident(service: Service) -> dict[int, int]:
    """Bytes of each process, the server's and its workers'."""
    server = psutil.Process(service.process.pid)
    return {one.pid: one.memory_info().rss for one in (server, *server.children(recursive=True))}


async def test_memory_does_not_grow_with_requests(start: Start, full: bool) -> None:
    few, many = (500, 5000) if full else (200, 800)
    # Both memories hold some fifty pictures: they are full long before the first reading.
    with start(CACHE_BYTES="100000", FILE_CACHE_BYTES="100000") as service:
        service.await_ready()
        async with service.client() as http:

            async def serve(first: int, last: int) -> None:
                for seeds in range(first, last, 50):
                    answers = await asyncio.gather(
                        *(
                            draw(http, {"seed": seed, "steps": 2})
                            for seed in range(seeds, seeds + 50)
                        )
                    )
                    assert {answer.status_code for answer in answers} == {200}

            await serve(0, few)
            before = resident(service)
            await serve(few, many)
            after = resident(service)
            assert await metric(http, "images_total") == many
    assert len(before) == 2
    assert after.keys() == before.keys()
    for pid, held in before.items():
        slope = (after[pid] - held) / (many - few)
        print(f"{held / 1e6:.0f} to {after[pid] / 1e6:.0f} MB, {slope:.0f} bytes a request")
        assert after[pid] < 1.05 * held
        assert slope < 1024 or not full


async def test_memory_of_large_answers_is_given_back(start: Start) -> None:
    def ask(accept: bytes) -> None:
        with connect(service) as client:
            client.sendall(large_edit(accept).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            assert received(client).startswith(b"HTTP/1.1 200 ")

    with start() as service:
        service.await_ready()
        pid = service.process.pid
        before = resident(service)[pid]
        for _ in range(2):
            kinds = (b"application/json", b"text/event-stream")
            await asyncio.gather(*(asyncio.to_thread(ask, kind) for kind in kinds))
            # Answers of 18 MB each; in the allocator's heaps 40 to 100 stay.
            assert resident(service)[pid] < before + 30e6
