"""``python -m tools.concept_start FLOW SETS… --vectors V -o OUT``: a flow that knows concepts.

It begins as ``FLOW``, with more layers and perhaps larger images, but is told by numbers what to
draw: the symbols, skin tones and styles of the sets (`model.flow.concepts`). What the new memory
holds is learned from the old prompt encoder, without images; styles that the old flow did not know
begin as one that it did. What reads prompts has learned nothing yet (`tools.concept_reader`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.evaluation import evaluating
from model.checkpoint import WEIGHTS
from model.data.concepts import NOTHING, Concepts, Numbers
from model.data.emoji import FLUENT, Emoji, read_records, select
from model.flow.concepts import ConceptMemory
from model.flow.config import FlowCheckpoint, FlowConfig
from model.flow.inheritance import resized
from model.flow.network import FlowTransformer
from model.flow.training import FlowTraining
from model.loading import load_weights
from model.training.recipe import Start, load_vectors, set_vectors
from tools.concept_flow import load_network, open_flow, save_knowing

NOTO, FLUENT_3D = "noto", "fluent 3d"
"""The styles that the old flow knows."""

BLOCKS = "blocks."
EMBEDDING = "reader.encoder.embedding."
LAST = ("attention.out.weight", "feed_forward.down.weight")
"""Of a block's two branches: where these are zero, the block adds nothing."""

RATE = 2e-3  # of learning the memory; falls to zero over the last half
READ_AT_ONCE = 256  # prompts


def main(
    flow: Annotated[Path, typer.Argument(help="A flow, by name or folder.")],
    sets: Annotated[list[Path], typer.Argument(help="Emoji sets, and a folder with words.")],
    vectors: Annotated[Path, typer.Option(help="A folder by tools.word_vectors.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new checkpoint.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels along each side.")] = 128,
    patch: Annotated[int, typer.Option(min=1, help="Pixels along a patch's side.")] = 16,
    depth: Annotated[int, typer.Option(min=1, help="Blocks.")] = 10,
    detail_width: Annotated[int, typer.Option(min=0, help="See tessera train.")] = 512,
    polish_channels: Annotated[int, typer.Option(min=0, help="See tessera train.")] = 16,
    steps: Annotated[int, typer.Option(min=0, help="Of learning the memory.")] = 600,
    batch: Annotated[int, typer.Option(min=1, help="Concepts a step.")] = 512,
) -> None:
    """Make a flow that is told by numbers what to draw."""
    with one_line_errors(), evaluating():
        checkpoint = open_flow(flow)
        torch.manual_seed(0)
        before = checkpoint.config.network
        if before.concepts:
            raise UserError(f"{flow}: knows concepts already")
        known, tokenizer = load_vectors(vectors)
        records = select(read_records(sets), "train")
        concepts = Concepts.of(records)
        text = replace(
            before.text,
            vocabulary=tokenizer.vocabulary,
            frozen_channels=known["codes"].shape[1],
        )
        try:
            after = replace(
                before,
                image_size=size,
                patch_size=patch,
                depth=depth,
                detail_width=detail_width,
                polish_channels=polish_channels,
                concepts=concepts.counts,
                text=text,
            )
            network = FlowTransformer(after)
            set_vectors(network, known)
            old = load_weights(checkpoint.folder / WEIGHTS)
            network.load_state_dict(grown(old, before, network))
        except ValueError as error:
            raise UserError(f"{flow}: cannot be the beginning: {error}") from error
        memory = network.reader.concepts
        assert memory is not None
        prompts = prompts_of(records, concepts)
        summaries = _read(checkpoint, list(prompts.values()))
        begin(memory, list(prompts), summaries)
        learn(memory, list(prompts), summaries, steps, batch)
        sampling = checkpoint.config.sampling.model_copy(update={"likeliest": True})
        config = checkpoint.config.model_copy(update={"network": after, "sampling": sampling})
        save_knowing(out, config, network.state_dict(), tokenizer, concepts)
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


def grown(
    old: Mapping[str, Tensor], before: FlowConfig, network: FlowTransformer
) -> dict[str, Tensor]:
    """A state of ``network`` with the old weights, to which what is new adds nothing yet.

    So it draws what the old one did, if images have the same size and it is asked with the same
    summary tokens. New blocks lie evenly between the old ones. Embeddings are the network's own,
    as it has another tokenizer. Raises ``ValueError`` for old weights that do not fit.
    """
    after = network.config
    if after.depth < before.depth:
        raise ValueError(f"depth {after.depth} is less than the {before.depth} blocks that it has")
    state = dict(network.state_dict())
    places = _places(before.depth, after.depth)
    for name, weight in resized(old, before, after).items():
        if name.startswith(EMBEDDING):
            continue
        new = name
        if name.startswith(BLOCKS):
            _, number, rest = name.split(".", 2)
            new = f"{BLOCKS}{places[int(number)]}.{rest}"
        if new not in state or state[new].shape != weight.shape:
            has = list(state[new].shape) if new in state else "none"
            raise ValueError(f"{name} is {list(weight.shape)}, the new network has {has}")
        state[new] = weight
    for added in set(range(after.depth)) - set(places):
        for last in LAST:
            name = f"{BLOCKS}{added}.{last}"
            state[name] = torch.zeros_like(state[name])
    return state


def _places(before: int, after: int) -> list[int]:
    """Where each old block comes."""
    new = after - before
    return [block + block * new // before for block in range(before)]


def prompts_of(records: Iterable[Emoji], concepts: Concepts) -> dict[Numbers, str]:
    """For each image, with its style and without, the prompt by which the old flow knows it best.

    Of a style that it does not know, that is the name in the more similar one of those it knows.
    """
    prompts = {NOTHING: ""}
    for record in records:
        numbers = concepts.numbers(record)
        like = FLUENT_3D if record.style in FLUENT else NOTO
        prompts[numbers] = f"{record.name}, {like} style"
        prompts.setdefault(numbers._replace(style=0), record.name)
    return prompts


@torch.no_grad()
def _read(checkpoint: FlowCheckpoint, prompts: Sequence[str]) -> Tensor:
    """What the old prompt encoder makes of prompts: [N, summary, W]."""
    encoder = load_network(checkpoint).reader.encoder
    start, length = Start(checkpoint.tokenizer), FlowTraining().prompt_tokens
    parts = (prompts[at : at + READ_AT_ONCE] for at in range(0, len(prompts), READ_AT_ONCE))
    return torch.cat([encoder(start.tokens(part, length)) for part in parts])


@torch.no_grad()
def begin(memory: ConceptMemory, asked: Sequence[Numbers], wanted: Tensor) -> None:
    """Symbols begin as what the old encoder made of their plainest prompts; the block, as nothing.

    ``wanted`` [N, summary, W] is what is to be read for the numbers in ``asked``.
    """
    for name, parameter in memory.blocks.named_parameters():
        if name.endswith(LAST):
            parameter.zero_()
    for numbers, summary in sorted(zip(asked, wanted, strict=True), key=_plainest_last):
        memory.first[numbers.symbol] = summary


def _plainest_last(pair: tuple[Numbers, Tensor]) -> tuple[int, int]:
    """Sorts prompts without skin tone and style behind those that have them."""
    numbers, _ = pair
    return (-numbers.tone, -numbers.style)


def learn(
    memory: ConceptMemory, asked: Sequence[Numbers], wanted: Tensor, steps: int, batch: int
) -> float:
    """Moves the memory's values towards ``wanted`` [N, summary, W] for the numbers in ``asked``.

    Returns the last step's mean squared error, as a share of the variance; NaN after no step.
    """
    numbers = torch.tensor(asked)
    optimizer = torch.optim.AdamW(memory.parameters(), RATE, (0.9, 0.99), weight_decay=0.0)
    variance = wanted.var(0).mean()
    loss = float("nan")
    with progress_bar("error {task.fields[loss]:.4f}") as bar:
        task = bar.add_task("learning concepts", total=steps, loss=loss)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - step / steps))
            rows = torch.randint(len(numbers), (batch,))
            error = (memory.of_numbers(numbers[rows]) - wanted[rows]).square().mean() / variance
            error.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss = error.item()
            bar.update(task, advance=1, loss=loss)
    return loss


if __name__ == "__main__":
    typer.run(main)
