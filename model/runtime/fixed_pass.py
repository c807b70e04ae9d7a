"""One kind of pass: a function of tensors that is run again and again with one shape, or a few.

On a CPU the function is simply called. On a GPU it is captured once for each size, as a CUDA graph;
from then on a pass is asynchronous copies out of pinned memory, one replay, and asynchronous copies
back into pinned memory, all of them queued on the one stream that the process uses. Nothing in a
pass makes the host wait; `FixedPass.fetch` waits once, at its end.

A graph remembers addresses: whatever the function
reads beside its inputs (weights, encodings, a cache) must be changed in place, never replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import torch
from torch import Tensor

from model.protocol import ImageModel, R
from model.runtime.rungs import Rungs

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

I = TypeVar("I", bound="DataclassInstance")  # noqa: E741
T = TypeVar("T", bound=tuple[Tensor, ...])

Mode = Literal["eager", "cuda graph"]
"""How the functions are run. They are the same, but their bits need not be: part of numerics."""

WARM_UP = 3
"""Calls before a capture, in which libraries choose kernels and allocate their workspaces."""


def mode_on(device: torch.device | str) -> Mode:
    """What a device is served with where nothing else is set."""
    return "cuda graph" if torch.device(device).type == "cuda" else "eager"


def rungs_in(mode: Mode, tile: int) -> Rungs:
    """Which sizes passes have: fewer as graphs, as each is recorded before the model is served."""
    return Rungs(tile, halfway=mode == "eager")


@dataclass(frozen=True, slots=True)
class Recording(Generic[T]):
    """Work that can be done again. ``replay`` queues it and leaves its results in ``outputs``."""

    outputs: T
    replay: Callable[[], None]


def cuda_graphs(works: Sequence[Callable[[], T]]) -> list[Recording[T]]:
    """Captures what each of ``works`` does on the current CUDA device.

    They share memory for what they allocate, held as long as one of the recordings: with the one
    that needs most as the first, the others need little more than their outputs. Each replay may
    overwrite the outputs of the others.
    """
    pool = torch.cuda.graph_pool_handle()
    return [_cuda_graph(work, pool) for work in works]


def _cuda_graph(work: Callable[[], T], pool: torch.cuda._POOL_HANDLE) -> Recording[T]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        outputs = work()
    return Recording(outputs, graph.replay)


class FixedPass(Generic[I, T]):
    """Runs ``function`` on the first places of its ``inputs``, in the smallest size that fits.

    ``inputs`` is a dataclass of tensors, each with as many rows as there are places; their dtypes
    never change. Fill the first places of `inputs`, then `launch` or `fetch` so many. ``rungs`` are
    the sizes, the same for all passes of a model; without them there is one, that of the inputs.
    The function is given inputs of such a size, and its outputs must have as many rows. The first
    time that a smaller size is used, all places are computed too, and the outputs compared.

    What is returned is overwritten by the next pass: clone what must stay. Belongs to one thread. A
    CUDA device must be the current one. With "cuda graph", the function is called a few times at
    once for each size, on the inputs as they are, and never again.

    Attributes:
        size: of the last pass, padding included.
    """

    def __init__(
        self,
        function: Callable[[I], T],
        inputs: I,
        device: torch.device,
        mode: Mode,
        rungs: Rungs | None = None,
    ) -> None:
        self._places = len(_tensors(inputs)[0])
        self._rungs = rungs or Rungs(self._places, smaller=False)
        self.size = self._places
        self._function = function
        on_gpu = device.type == "cuda"
        self._host = _map(inputs, lambda x: x.pin_memory() if on_gpu else x)
        self._device = self._host
        if device.type != "cpu" or mode == "cuda graph":
            self._device = _map(inputs, lambda x: x.to(device, copy=True))
        sizes = (self._places, *reversed(self._rungs.smaller))
        self._parts = {size: _map(self._device, itemgetter(slice(size))) for size in sizes}
        self._recordings: dict[int, Recording[T]] = {}
        if mode == "cuda graph":
            works = [partial(function, part) for part in self._parts.values()]
            with torch.inference_mode():
                self._recordings = dict(zip(self._parts, cuda_graphs(works), strict=True))
        self._results: tuple[Tensor, ...] = ()
        self._read = torch.cuda.Event() if on_gpu else None
        self._written = torch.cuda.Event() if on_gpu else None

    def inputs(self) -> I:
        """The inputs on the host, to be filled in place. Waits if a pass has yet to read them."""
        if self._read is not None:
            self._read.synchronize()
        return self._host

    @torch.inference_mode()
    def launch(self, count: int) -> T:
        """Queues a pass of ``count`` places. Its outputs stay on the device, for what is queued
        there next; they have `size` rows, of which the first ``count`` matter."""
        rungs, size = self._rungs, self._rungs.holding(self, count)
        if rungs.tested(self, size):
            return self._run(size)
        small = [output.clone() for output in self._run(size)]
        whole = self._run(self._places)
        pairs = zip(small, whole, strict=True)
        rungs.learn(self, size, equal=all(torch.equal(one, all_[:size]) for one, all_ in pairs))
        return whole

    def _run(self, size: int) -> T:
        self.size = size
        for there, here in zip(_tensors(self._device), _tensors(self._host), strict=True):
            if there is not here:
                there[:size].copy_(here[:size], non_blocking=True)
        if self._read is not None:
            self._read.record()
        recording = self._recordings.get(size)
        if recording is None:
            return self._function(self._parts[size])
        recording.replay()
        return recording.outputs

    @torch.inference_mode()
    def fetch(self, count: int) -> tuple[Tensor, ...]:
        """Runs a pass and waits for its outputs, on the host."""
        outputs = self.launch(count)
        if self._written is None:
            return outputs
        if not self._results:
            self._results = tuple(
                torch.empty(self._places, *one.shape[1:], dtype=one.dtype, pin_memory=True)
                for one in outputs
            )
        for here, there in zip(self._results, outputs, strict=True):
            here[: self.size].copy_(there, non_blocking=True)
        self._written.record()
        self._written.synchronize()
        return self._results


def by_kind(model: ImageModel[R], rows: Sequence[R]) -> dict[str, list[R]]:
    """Rows by the kind of their next pass.

    Raises ``ValueError`` if those of one kind need more evaluations than its pass holds.
    """
    kinds: dict[str, list[R]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    for kind, together in kinds.items():
        needed, capacity = sum(row.evaluations for row in together), model.capacity(kind)
        if needed > capacity:
            raise ValueError(f"{needed} evaluations do not fit a pass of {capacity} ({kind})")
    return kinds


def _tensors(inputs: DataclassInstance) -> list[Tensor]:
    return [getattr(inputs, field.name) for field in fields(inputs)]


def _map(inputs: I, change: Callable[[Tensor], Tensor]) -> I:
    return replace(
        inputs, **{field.name: change(getattr(inputs, field.name)) for field in fields(inputs)}
    )
