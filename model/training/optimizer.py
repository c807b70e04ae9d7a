"""What moves the weights: Muon for the matrices inside blocks, AdamW for the rest, one schedule.

Muon (Jordan et al. 2024) orthogonalises each update; ``match_rms_adamw`` (Liu et al. 2025, "Muon is
scalable for LLM training") gives it AdamW's update size, so that one learning rate serves both.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """Learning rate over a run: a short warm-up, a plateau, a linear cool-down to zero.

    A plateau, unlike a cosine, lets a run be prolonged by resuming it with more steps.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 200
    cooldown: float = 0.4  # the last part of the run

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step ``step`` (from 0) of ``steps``."""
        warmup = (step + 1) / max(1, self.warmup_steps)
        left = (steps - step) / max(1, round(steps * self.cooldown))
        return self.learning_rate * min(1.0, warmup, left)

    def rate_at(self, step: int, done: float) -> float:
        """That of step ``step`` when ``done`` of the run (0…1) is over: a run may end by the clock.

        The steps that it will have had are those so far, carried on at the same pace.
        """
        return self.rate(step, round(step / done) if step else sys.maxsize)


def split(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The matrices inside blocks, which are Muon's, and all other parameters."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        in_block = "blocks." in name and parameter.ndim == 2 and "modulation" not in name
        (matrices if in_block else others).append(parameter)
    return matrices, others


def optimizers(network: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Both optimizers over all parameters of ``network``."""
    matrices, others = split(network)
    return [
        torch.optim.Muon(
            matrices,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            others, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        ),
    ]


class Average:
    """An exponential moving average (EMA) of a network's state, quicker in the first steps.

    (``torch.optim.swa_utils.AveragedModel`` keeps a copy of the module, renames its weights and
    would need the decay of each step as a function of its own counter.)
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the weights after step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = network.state_dict()
        moving = [name for name, value in self.state.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.state[name] for name in moving], [current[name] for name in moving], 1 - decay
        )
