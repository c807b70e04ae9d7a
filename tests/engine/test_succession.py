"""Which engine serves after a reload, and for how long the one before it stays.

With engines that start no workers; tests/service/test_reload.py has real ones.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.engine import Engine, NotReady, Succession
from app.engine import succession as module
from model.checkpoint import CheckpointError
from model.spec import ModelSpec


def spec(digest: str, id_: str = "cats") -> ModelSpec:
    return cast("ModelSpec", SimpleNamespace(id=id_, digest=digest))


class OneModel:
    """An engine with the model "cats". ``next`` is what its folder has by now, or what is wrong."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.state = "starting"
        self.next: str | Exception = digest
        self.failure: Exception | None = None
        self.made: list[OneModel] = []
        self.loading = asyncio.Event()
        self.loading.set()
        self.begun = asyncio.Event()  # whether a successor has
        self.idle = asyncio.Event()
        self.checkpoints = {"cats": SimpleNamespace(spec=spec(digest))}
        self.models: dict[str, Any] = {}

    def successor(self) -> OneModel:
        if isinstance(self.next, Exception):
            raise self.next
        made = OneModel(self.next)
        made.loading, made.begun = self.loading, self.begun
        made.failure = self.failure
        self.made.append(made)
        return made

    async def start(self) -> None:
        self.begun.set()

    async def wait_ready(self) -> None:
        await self.loading.wait()
        if self.failure:
            raise self.failure
        self.state = "ready"
        self.models = {"cats": SimpleNamespace(spec=spec(self.digest), numerics=self.digest)}

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - as the engine's
        self.state = "draining"
        await self.idle.wait()
        return True

    async def stop(self) -> None:
        self.state = "stopped"


async def ready(digest: str) -> OneModel:
    engine = OneModel(digest)
    await engine.wait_ready()
    return engine


def succession(engine: OneModel) -> Succession:
    return Succession(cast("Engine", engine), timeout=60)


async def reloaded(engines: Succession) -> None:
    engines.request_reload()
    await engines.wait_reloaded()


async def test_the_old_one_finishes_what_was_resolved_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.01)
    old = await ready("a")
    engines = succession(old)
    old.next = "b"
    await reloaded(engines)
    [new] = old.made
    assert engines.current is cast("Engine", new)
    assert engines.engine_for(spec("b")) is cast("Engine", new)
    assert engines.engine_for(spec("a")) is cast("Engine", old)
    await asyncio.sleep(0.05)
    assert old.state == "draining"
    assert engines.engine_for(spec("a")) is cast("Engine", old)
    old.idle.set()
    await asyncio.sleep(0.01)
    assert old.state == "stopped"
    with pytest.raises(NotReady, match="cats was replaced by a newer one"):
        engines.engine_for(spec("a"))
    assert engines.loaded(spec("a")).numerics == "a"  # of what was drawn and is encoded now
    assert engines.loaded(spec("b")).numerics == "b"
    await engines.stop()
    assert new.state == "stopped"


@pytest.mark.parametrize(
    ("following", "failure", "said"),
    [
        ("a", None, "no model has changed"),
        (CheckpointError("cats: no such folder"), None, "stay as they are: cats: no such folder"),
        ("b", NotReady("weights are not finite"), "stay as they are: weights are not finite"),
    ],
)
async def test_nothing_changes_where_there_is_nothing_better(
    following: str | Exception,
    failure: Exception | None,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = await ready("a")
    engines = succession(old)
    old.next, old.failure = following, failure
    with caplog.at_level("INFO"):
        await reloaded(engines)
    assert said in caplog.text
    assert engines.current is cast("Engine", old)
    assert old.state == "ready"
    assert all(made.state == "stopped" for made in old.made)


async def reload_begun() -> tuple[OneModel, Succession]:
    """A reload from "a" to "b" that goes on once the first engine's ``loading`` is set."""
    old = await ready("a")
    engines = succession(old)
    old.next = "b"
    old.loading.clear()
    engines.request_reload()
    await old.begun.wait()
    return old, engines


async def test_what_changes_during_a_reload_is_loaded_after_it() -> None:
    old, engines = await reload_begun()
    old.made[0].next = "c"
    engines.request_reload()
    engines.request_reload()
    old.loading.set()
    await engines.wait_reloaded()
    assert engines.current.checkpoints["cats"].spec.digest == "c"
    await engines.stop()
    assert old.state == "stopped"


async def test_a_service_that_leaves_takes_nothing_in() -> None:
    old, engines = await reload_begun()
    old.idle.set()
    assert await engines.drain(1)
    old.loading.set()
    await engines.wait_reloaded()
    assert engines.current is cast("Engine", old)
    assert old.made[0].state == "stopped"
