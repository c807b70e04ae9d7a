"""The points at which a pipeline's run waits for the engine: calls of its networks.

A run is the library's own call of a pipeline in a greenlet. All runs, and whoever resumes them,
share one thread, so nothing races and there is one pool of threads and one stream. A gate takes the
place of a network's method: called from a run it parks the call and hands the turn back; called
from anywhere else it is the method.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from greenlet import GreenletExit, getcurrent, greenlet
from torch import nn

Stage = Literal["encode", "denoise", "decode"]
"""What a network does for a run: reads texts and images, takes steps, or makes the image."""


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """A run's call of a gate."""

    gate: Gate
    arguments: dict[str, Any]  # by keyword

    def compute(self) -> Any:
        """What the method returns."""
        return self.gate.compute(**self.arguments)


class Gate:
    """Stands in for a method of a network: same signature, same attributes."""

    def __init__(self, network: nn.Module, name: str, stage: Stage) -> None:
        self.method: Callable[..., Any] = getattr(network, name)
        self.stage: Stage = stage
        self._network, self._name = network, name
        self._signature = inspect.signature(self.method)

        @functools.wraps(self.method)
        def gated(*args: Any, **kwargs: Any) -> Any:
            current = getcurrent()
            if isinstance(current, _Thread):
                return current.run_.visit(Visit(self, self._named(args, kwargs)))
            return self.compute(*args, **kwargs)

        self._gated = gated
        setattr(network, name, gated)

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """What the method returns."""
        output = self.method(*args, **kwargs)
        if getattr(self._network, self._name) is not self._gated:
            # Hooks of an offloaded network take themselves off in its first call, and put back the
            # method that they found.
            self.method = getattr(self._network, self._name)
            setattr(self._network, self._name, self._gated)
        return output

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        named = dict(self._signature.bind(*args, **kwargs).arguments)
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                named |= named.pop(parameter.name, {})
        return named


class _Thread(greenlet):
    """Knows the run that it is of."""

    run_: Run


class Run:
    """One call of a pipeline, from gate to gate.

    Nothing is run before the first `resume`. ``visit_`` is the call that it waits for; None before
    the first `resume` and once it is done. What it raised itself is in ``error``.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self.waiting: Visit | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self.done = False
        self._closing = False
        self._call: Callable[[], Any] | None = call
        self._thread: _Thread | None = _Thread(self._main)
        self._thread.run_ = self

    def resume(self, answer: Any = None) -> None:
        """Goes on with what the gate's method returned, up to the next gate or the end."""
        assert self._thread is not None
        self.waiting = None
        self._thread.parent = getcurrent()
        self._thread.switch(answer)

    def close(self) -> None:
        """Ends the run wherever it waits; its blocks are left as by an exception. Idempotent."""
        thread, self._closing = self._thread, True
        self.waiting = self._call = None
        if thread is not None and not thread.dead:
            thread.parent = getcurrent()
            thread.throw(GreenletExit)
        self.done, self._thread = True, None

    def visit(self, visit: Visit) -> Any:
        """Called by a gate, inside the run: parks the call. A subclass may answer at once."""
        if self._closing:  # a block that calls a network on its way out
            raise GreenletExit
        self.waiting = visit
        assert self._thread is not None
        assert self._thread.parent is not None
        return self._thread.parent.switch()

    def _main(self, _: Any) -> None:
        call, self._call = self._call, None
        assert call is not None
        try:
            self.result = call()
        except GreenletExit:
            pass
        except Exception as error:  # noqa: BLE001 - it is this run's alone
            self.error = error
        self.waiting, self._thread, self.done = None, None, True
