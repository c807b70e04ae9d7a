"""How the network learns: its loss, its steps, and the pairs of each step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from model.flow.objective import FlowObjective
from model.training.optimizer import Average
from tools.counterparts.network import CounterpartNetwork
from tools.counterparts.sources import Sources
from tools.graphed import BLOCK, GraphedSteps

FROM_NOTHING = 0.5
"""Share of the images that are drawn from noise alone, which is what the first step does, where
there are more."""


class CounterpartSteps(GraphedSteps):
    """Those of a network and of the average of its weights."""

    def __init__(
        self,
        network: CounterpartNetwork,
        sources: Sources,
        *,
        batch: int,
        drawing_steps: int,
        weight_decay: float,
        compiled: bool,
    ) -> None:
        ends = {network.shown_in.weight, network.noisy_in.weight, network.out.weight}
        filters = [one for one in network.parameters() if one.ndim == 4 and one not in ends]
        others = [one for one in network.parameters() if one.ndim != 4 or one in ends]
        device = sources.images.device
        super().__init__(
            filters, others, device, weight_decay=weight_decay, others_decay=weight_decay
        )
        self._network, self._sources = network, sources
        self._objective = FlowObjective.for_size(network.shape.size)
        self._from_nothing = FROM_NOTHING if drawing_steps > 1 else 1.0
        self._pairs = torch.zeros(batch, 2, dtype=torch.long, device=device)
        self.average = Average(network, 0.999)
        self._done = 0
        self._drawn = torch.compile(network, dynamic=False) if compiled else network
        self.capture()

    def step(self, pairs: Tensor, rate: float) -> None:
        """One step, on pairs [batch, 2]."""
        self._pairs.copy_(pairs)
        self.run(rate)
        # Not in the graph, as its decay grows: the network begins with random weights.
        self.average.update(self._network, self._done)
        self._done += 1

    def loss(self) -> Tensor:
        """See `GraphedSteps.loss`."""
        asked, image = self._sources.lesson(self._pairs)
        count, device = len(image), image.device
        times = self._objective.times(count, self.generator)
        times = times * (torch.rand(count, device=device) >= self._from_nothing)
        noisy = self._objective.noisy(image, torch.randn_like(image), times)
        with torch.autocast(device.type, torch.bfloat16):
            drawn = self._drawn(
                asked.shown, asked.mask, asked.style, asked.distortion, noisy, times
            )
        return self._objective.loss(drawn, image, noisy, times)


def blocks(pairs: Tensor, weights: Tensor, batch: int) -> Iterator[Iterator[Tensor]]:
    """Pairs [batch, 2] of each step, block by block, each as often as its weight [N] says."""
    while True:
        chosen = torch.multinomial(weights, BLOCK * batch, replacement=True)
        yield (pairs[rows] for rows in chosen.view(BLOCK, batch))
