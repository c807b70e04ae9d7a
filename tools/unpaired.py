"""What is learned from noise that belongs to no image: the mean, or all of them.

The same network, loss and steps twice, on a handful of images. What differs is whether noise is
shown alone, or on its way to the image that it is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from model.evaluation.metrics import flat
from model.request import Picture
from model.runtime.pixels import to_picture
from model.training.sheet import contact_sheet

SIDE = 24
BATCH = 128
STEPS = 1500


def learn(pictures: Tensor, steps: int, *, on_the_way: bool) -> nn.Module:
    """Of pictures [N, D]."""
    size = pictures.shape[1]
    network = nn.Sequential(
        *(nn.Linear(size + 1, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU()),
        nn.Linear(512, size),
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    for _ in range(steps):
        x = pictures[torch.randint(len(pictures), (BATCH,))]
        z = torch.randn_like(x)  # belongs to no picture
        t = torch.rand(BATCH, 1) if on_the_way else torch.zeros(BATCH, 1)
        y = t * x + (1 - t) * z  # z alone at t = 0, more and more of x later
        loss = (network(torch.cat((y, t), 1)) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@torch.inference_mode()
def draw(network: nn.Module, z: Tensor, steps: int) -> Tensor:
    """From noise [N, D], in steps of Euler's method, each towards what the network predicts."""
    x = z
    for step in range(steps):
        t = torch.full((len(x), 1), step / steps)
        predicted = network(torch.cat((x, t), 1))
        x = x + (predicted - x) / (steps - step)
    return x


def experiment(images: Sequence[Image.Image]) -> Image.Image:
    """A row of the pictures, and a row of what each way draws from as many seeds."""
    small = [image.convert("RGBA").resize((SIDE, SIDE), Image.Resampling.BOX) for image in images]
    pixels = np.stack([np.asarray(flat(image)).transpose(2, 0, 1) for image in small])
    pictures = torch.from_numpy(pixels).float().flatten(1) / 127.5 - 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alone = learn(pictures, STEPS, on_the_way=False)
        flow = learn(pictures, STEPS, on_the_way=True)
        z = torch.randn(len(pictures), pictures.shape[1])
    rows = {
        "real": pictures,
        "L2 from noise": draw(alone, z, 1),
        "flow, 1 step": draw(flow, z, 1),
        "flow, 20 steps": draw(flow, z, 20),
    }
    shown = [picture for row in rows.values() for picture in _pictures(row)]
    captions = [name for name in rows for _ in images]
    return contact_sheet(shown, captions, columns=len(images), scale=3)


def _pictures(values: Tensor) -> list[Picture]:
    return [to_picture(image) for image in values.view(-1, 3, SIDE, SIDE)]
