"""Every entry of the catalogue, served: the library's pictures, the same in any batch."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from model.pipelines.catalogue import CATALOGUE
from model.pipelines.checkpoint import PipelineCheckpoint
from tests.crowd import in_a_crowd_and_alone
from tests.pipelines.conftest import MAKERS
from tests.pipelines.questions import Question, drawn_by_the_library, pixels, questions
from tests.service.running import Service

pytestmark = pytest.mark.timeout(900)


async def ask(http: httpx.AsyncClient, question: Question) -> bytes:
    answer = await http.post("/v1/images", json=question.body)
    assert answer.status_code == 200, f"{question}: {answer.text}"
    return answer.content


def test_every_entry_has_a_tiny_pipeline(folders: Mapping[str, Path]) -> None:
    """What is in the catalogue without one is not tested at all."""
    tested = {PipelineCheckpoint.open(folder).entry.title for folder in folders.values()}
    assert tested == {entry.title for entry in CATALOGUE}


@pytest.mark.parametrize("name", MAKERS)
async def test_draws_what_the_library_draws(
    name: str, folders: Mapping[str, Path], service: Service
) -> None:
    async with service.client() as http:
        for question in questions(folders[name], 3):
            drawn = pixels(await ask(http, question))
            expected = drawn_by_the_library(folders[name], question)
            assert drawn.std() > 1, "a flat image shows no difference"
            assert np.abs(drawn - expected).max() <= 2


@pytest.mark.parametrize("name", MAKERS)
async def test_draws_the_same_alone_in_company_and_by_address(
    name: str, folders: Mapping[str, Path], service: Service
) -> None:
    asked = questions(folders[name], 6)
    async with service.client() as http:

        async def asking(question: Question) -> bytes:
            return await ask(http, question)

        answers = await in_a_crowd_and_alone(asking, asked, apart=0.01)
        exact = (await http.get(f"/v1/models/{name}")).json()["seed_exact"]
        assert exact
        assert answers.differing == 0
        assert len(set(answers.alone)) == len(asked), "different requests, different images"
        by_address = await http.get(asked[0].address)
        assert by_address.status_code == 200, by_address.text
        assert by_address.content == answers.alone[0]


async def test_a_killed_worker_changes_nothing(
    served: dict[str, Path], service: Service, full: bool
) -> None:
    """All pipelines at once; the worker dies in the middle and everything is computed again."""
    if not full:
        pytest.skip("test_mixture.py does so with two: TESSERA_TEST_FULL=1")
    asked = [one for name in served for one in questions(served[name], 2)]
    async with service.client() as http:
        alone = [await ask(http, question) for question in asked]
        before = service.metric("worker_restarts_total")
        again = [asyncio.create_task(ask(http, question)) for question in asked]
        await asyncio.wait(again, return_when=asyncio.FIRST_COMPLETED)
        os.kill(worker_of(service), signal.SIGKILL)
        assert await asyncio.gather(*again) == alone
        assert service.metric("worker_restarts_total") == before + 1


def worker_of(service: Service) -> int:
    """Its process's id."""
    (worker,) = (
        child
        for child in psutil.Process(service.process.pid).children()
        if "app.engine.worker" in " ".join(child.cmdline())
    )
    return worker.pid
