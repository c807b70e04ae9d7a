"""The engine that serves, and those that it took over from, whose last rows are under way.

A reload makes a second engine of the same settings beside the first: the folders are opened again,
new workers load and test what lies in them, and only then does it take the first one's place. What
the first has accepted, and what was resolved for its models, is finished by it, on its weights.
"""

from __future__ import annotations

import asyncio
import logging

from app.engine.engine import Engine
from app.engine.job import NotReady
from model.checkpoint import CheckpointError
from model.protocol import LoadedModel
from model.spec import ModelSpec

GRACE = 5.0
"""Seconds in which an engine that was replaced still takes what was resolved for its models."""

log = logging.getLogger(__name__)


class Succession:
    """Belongs to one event loop, as engines do.

    Attributes:
        current: takes all new requests.
    """

    def __init__(self, engine: Engine, timeout: float) -> None:
        """``timeout`` is that of requests: what takes longer is not waited for."""
        self.current = engine
        self._timeout = timeout
        self._retired: dict[Engine, asyncio.Task[None]] = {}
        self._past: dict[str, LoadedModel] = {}  # what retired ones had loaded, by digest
        self._reload: asyncio.Task[None] | None = None
        self._again = False

    def engine_for(self, spec: ModelSpec) -> Engine:
        """The one that draws with exactly this model. Raises `NotReady` where it has gone."""
        for engine in (self.current, *self._retired):
            if _has(engine, spec):
                return engine
        if spec.id not in self.current.checkpoints:
            return self.current  # which refuses it
        raise NotReady(f"{spec.id} was replaced by a newer one meanwhile; ask again.")

    def loaded(self, spec: ModelSpec) -> LoadedModel:
        """What is known of a model once it is loaded, even after it has gone. Raises `NotReady`."""
        found = self.current.models.get(spec.id)
        if found is None or found.spec.digest != spec.digest:
            found = self._past.get(spec.digest, found)
        if found is None:
            raise NotReady("the models are still loading; /readyz tells when they are")
        return found

    def request_reload(self) -> None:
        """Has the models opened again; once more after a reload that is under way."""
        if self._reload is None or self._reload.done():
            self._reload = asyncio.create_task(self._reload_all())
        else:
            self._again = True

    async def wait_reloaded(self) -> None:
        """Returns when no reload is under way."""
        if self._reload is not None:
            await self._reload

    async def _reload_all(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            await self._replace()

    async def _replace(self) -> None:
        old = self.current
        if old.state != "ready":
            log.warning("no reload: the engine is %s", old.state)
            return
        try:
            new = await asyncio.to_thread(old.successor)
        except (CheckpointError, ValueError, OSError) as error:
            log.error("no reload, the models stay as they are: %s", error)
            return
        changed = [spec for one in new.checkpoints.values() if not _has(old, spec := one.spec)]
        if not changed:
            log.info("no reload: no model has changed")
            await new.stop()
            return
        log.info("loading %s", _named(changed))
        try:
            await new.start()
            await new.wait_ready()
        except NotReady as error:
            log.error("no reload, the models stay as they are: %s", error)
            await new.stop()
            return
        except BaseException:
            await new.stop()
            raise
        if self.current.state != "ready":  # it was told to leave, or failed, meanwhile
            await new.stop()
            return
        self._past |= {model.spec.digest: model for model in old.models.values()}
        self.current = new
        self._retired[old] = asyncio.create_task(self._retire(old))
        log.info("reloaded %s", _named(changed))

    async def _retire(self, engine: Engine) -> None:
        await asyncio.sleep(GRACE)
        await engine.drain(self._timeout)
        await engine.stop()
        del self._retired[engine]

    async def start(self) -> None:
        """See `Engine.start`."""
        await self.current.start()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - see `Engine.drain`
        """See `Engine.drain`."""
        engines = (self.current, *self._retired)
        return all(await asyncio.gather(*(engine.drain(timeout) for engine in engines)))

    async def stop(self) -> None:
        """See `Engine.stop`."""
        tasks = [task for task in (self._reload, *self._retired.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(engine.stop() for engine in (self.current, *self._retired)))


def _has(engine: Engine, spec: ModelSpec) -> bool:
    known = engine.checkpoints.get(spec.id)
    return known is not None and known.spec.digest == spec.digest


def _named(specs: list[ModelSpec]) -> str:
    return ", ".join(f"{spec.id} ({spec.digest[:12]})" for spec in specs)
