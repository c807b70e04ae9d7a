"""Flows that know concepts by number, as the tools that train them open and write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from app.cli.console import UserError
from model.checkpoint import WEIGHTS, CheckpointError
from model.data.concepts import CONCEPTS, Concepts
from model.flow.config import FlowCheckpoint, FlowCheckpointConfig
from model.flow.network import FlowTransformer
from model.loading import load_weights, save_checkpoint
from model.registry import open_checkpoint
from model.tokenizer import PromptTokenizer


def open_flow(flow: Path) -> FlowCheckpoint:
    """By name or folder. Raises `UserError` for another family, `CheckpointError`."""
    checkpoint = open_checkpoint(flow)
    if not isinstance(checkpoint, FlowCheckpoint):
        raise UserError(f"{flow}: is a {checkpoint.spec.family}, not a flow")
    return checkpoint


def open_knowing(flow: Path) -> tuple[FlowCheckpoint, Concepts]:
    """A flow with the concepts that it knows. Raises `UserError` for others, `CheckpointError`."""
    checkpoint = open_flow(flow)
    counts = checkpoint.config.network.concepts
    if not counts:
        raise UserError(f"{flow}: is no flow that knows concepts, as tools.concept_start writes")
    path = checkpoint.folder / CONCEPTS
    if not path.is_file():
        raise CheckpointError(f"{path}: missing, so what its numbers stand for is not known")
    concepts = Concepts.load(checkpoint.folder)
    if concepts.counts != counts:
        raise CheckpointError(
            f"{path}: is for {list(concepts.counts)} concepts, the network has {list(counts)}"
        )
    return checkpoint, concepts


def load_network(checkpoint: FlowCheckpoint) -> FlowTransformer:
    """With its weights, on the CPU."""
    network = FlowTransformer(checkpoint.config.network)
    network.load_state_dict(load_weights(checkpoint.folder / WEIGHTS))
    return network


def save_knowing(
    out: Path,
    config: FlowCheckpointConfig,
    state: Mapping[str, Tensor],
    tokenizer: PromptTokenizer,
    concepts: Concepts,
) -> None:
    """Writes a checkpoint, and before it what its numbers stand for."""
    concepts.save(out)
    save_checkpoint(out, config, state, tokenizer)
