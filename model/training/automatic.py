"""Completes a run's options: from its folder where it has begun, else for its data and machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from model.cores import cores
from model.data.survey import survey
from model.training.choices import OLDER, Choices, Facts, Shape, choose
from model.training.recipe import TrainingOptions, read_shape

SHAPED = ("flow", "gan")
"""Families whose network is chosen; others have their preset."""


def completed(
    options: TrainingOptions, state: Mapping[str, Any] | None, machine: PartialState
) -> tuple[TrainingOptions, Choices]:
    """The options with what ``options.given`` leaves open, and what a resume needs of it.

    ``state`` is that of a run which has begun: its choices stand. All processes have those of the
    first one. Raises ``DataError``, ``CheckpointError``.
    """
    names = [field.name for field in fields(Choices)]
    if options.given is None:
        return options, Choices(**{name: getattr(options, name) for name in names})
    if state is not None:
        before = Choices(**state["choices"]) if "choices" in state else OLDER
        choices = options.given.on(before)
    else:
        own = [_chosen(options, options.given, machine) if machine.is_main_process else None]
        choices = broadcast_object_list(own)[0]
    settled = {name: value for name, value in asdict(choices).items() if value is not None}
    settled |= {name: getattr(choices, name) for name in ("minutes", "sample_every", "save_every")}
    return replace(options, **settled), choices


def _chosen(options: TrainingOptions, given: Choices, machine: PartialState) -> Choices:
    data = survey(options.data)
    on_gpu = machine.device.type == "cuda"
    facts = Facts(
        images=data.images,
        side=data.side,
        cores=cores(),
        gpu=torch.cuda.mem_get_info(machine.device)[0] / 2**30 if on_gpu else None,
        amx=torch.cpu._is_amx_tile_supported(),
        processes=machine.num_processes,
    )
    choices = choose(given, facts, None if options.init is None else _shape(options.init))
    if options.family in SHAPED:
        return choices
    return replace(choices, patch=given.patch, width=given.width, depth=given.depth)


def _shape(init: Path) -> Shape | None:
    network = read_shape(init)
    if network is None:
        return None
    return Shape(network.image_size, network.patch_size, network.width, network.depth)
