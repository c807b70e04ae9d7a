"""``python -m tools.concept_start FLOW SETS… --vectors V -o OUT``: a flow that knows concepts.

It draws what ``FLOW`` does, at another size and with more layers, but is told by numbers what to
draw: the symbols, skin tones and styles of the sets (`model.flow.concepts`). What the new memory
holds is learned from the old prompt encoder, without images; styles that the old flow did not know
begin as one that it did. The new prompt encoder has learned nothing yet (`tools.concept_reader`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
from model.flow.inheritance import EMBEDDING, resized
from model.flow.network import FlowTransformer
from model.loading import load_weights, save_checkpoint
from model.registry import open_checkpoint
from model.training.recipe import load_vectors, set_vectors

KNOWN = ("noto", "fluent 3d")
"""Styles of release 0.1's flow."""
BLOCK = "blocks."
ENCODER = "reader.encoder."


def main(
    flow: Annotated[Path, typer.Argument(help="A flow, by name or folder.")],
    sets: Annotated[list[Path], typer.Argument(help="Emoji sets, and a folder with words.")],
    vectors: Annotated[Path, typer.Option(help="A folder by tools.word_vectors.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new checkpoint.")],
    size: Annotated[int, typer.Option(min=8)] = 128,
    patch: Annotated[int, typer.Option(min=1)] = 16,
    depth: Annotated[int, typer.Option(min=1, help="Blocks.")] = 10,
    detail_width: Annotated[int, typer.Option(min=0)] = 512,
    polish_channels: Annotated[int, typer.Option(min=0)] = 16,
    steps: Annotated[int, typer.Option(min=0, help="Of learning the memory.")] = 600,
    batch: Annotated[int, typer.Option(min=1, help="Concepts a step.")] = 512,
) -> None:
    """Make a flow that is told by numbers what to draw."""
    with one_line_errors(), evaluating():
        checkpoint = open_checkpoint(flow)
        if not isinstance(checkpoint, FlowCheckpoint):
            raise UserError(f"{flow}: is a {checkpoint.spec.family}, not a flow")
        torch.manual_seed(0)
        before = checkpoint.config.network
        known, tokenizer = load_vectors(vectors)
        records = select(read_records(sets), "train")
        concepts = Concepts.of(records)
        after = replace(
            before,
            image_size=size,
            patch_size=patch,
            depth=depth,
            detail_width=detail_width,
            polish_channels=polish_channels,
            concepts=concepts.counts,
            text=replace(
                before.text,
                vocabulary=tokenizer.vocabulary,
                frozen_channels=known["codes"].shape[1],
            ),
        )
        old = load_weights(checkpoint.folder / WEIGHTS)
        network = FlowTransformer(after)
        set_vectors(network, known)
        network.load_state_dict(grown(old, before, network))
        memory = network.reader.concepts
        assert memory is not None
        asked, wanted = _wanted(checkpoint, records, concepts)
        _begin(memory, concepts, asked, wanted)
        with progress_bar("error {task.fields[loss]:.4f}") as bar:
            task = bar.add_task("learning concepts", total=steps, loss=float("nan"))
            rate = torch.optim.AdamW(memory.parameters(), 2e-3, (0.9, 0.99), weight_decay=0.0)
            variance = wanted.var(0).mean()
            for step in range(steps):
                rate.param_groups[0]["lr"] = 2e-3 * min(1.0, 2 * (1 - step / steps))
                rows = torch.randint(len(asked), (batch,))
                error = (memory.of_numbers(asked[rows]) - wanted[rows]).square().mean() / variance
                error.backward()
                rate.step()
                rate.zero_grad()
                bar.update(task, advance=1, loss=float(error.detach()))
        config = checkpoint.config.model_copy(update={"network": after})
        save_checkpoint(out, config, network.state_dict(), tokenizer)
        concepts.save(out)
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


def grown(
    old: dict[str, Tensor], before: FlowConfig, network: FlowTransformer
) -> dict[str, Tensor]:
    """A state of ``network`` that draws what the old weights did: what is new adds nothing yet.

    New blocks lie evenly between the old ones. The prompt encoder keeps its new embeddings.
    """
    after = network.config
    state = dict(network.state_dict())
    place = _places(before.depth, after.depth)
    for name, weight in resized(old, before, after).items():
        new = name
        if name.startswith(BLOCK):
            _, number, rest = name.split(".", 2)
            new = f"{BLOCK}{place[int(number)]}.{rest}"
        if new in state and state[new].shape == weight.shape and new != EMBEDDING:
            state[new] = weight
    for number in set(range(after.depth)) - set(place):
        for last in ("attention.out.weight", "feed_forward.down.weight"):
            state[f"{BLOCK}{number}.{last}"] = torch.zeros_like(state[f"{BLOCK}{number}.{last}"])
    return state


def _places(before: int, after: int) -> list[int]:
    """Where each old block comes."""
    new = after - before
    return [block + block * new // before for block in range(before)]


@torch.inference_mode()
def _wanted(
    checkpoint: FlowCheckpoint, records: Sequence[Emoji], concepts: Concepts
) -> tuple[Tensor, Tensor]:
    """Numbers [N, 3] of what the old flow knew, and its prompts' summaries [N, summary, W]."""
    network = FlowTransformer(checkpoint.config.network)
    network.load_state_dict(load_weights(checkpoint.folder / WEIGHTS))
    prompts: dict[Numbers, str] = {NOTHING: ""}
    for record in records:
        symbol, tone, style = concepts.numbers(record)
        if record.style in KNOWN:
            prompts[symbol, tone, style] = record.caption
        like = "fluent 3d" if record.style in FLUENT else "noto"
        prompts.setdefault((symbol, tone, style), f"{record.name}, {like} style")
        prompts.setdefault((symbol, tone, 0), record.name)
    limit = checkpoint.config.network.text.max_tokens
    texts = list(prompts.values())
    found = []
    for begin in range(0, len(texts), 256):
        rows = [checkpoint.tokenizer.tokens(text)[:limit] for text in texts[begin : begin + 256]]
        length = max(1, *map(len, rows))
        tokens = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        found.append(network.reader.encoder(tokens))
    return torch.tensor(list(prompts)), torch.cat(found).clone()


@torch.no_grad()
def _begin(memory: ConceptMemory, concepts: Concepts, asked: Tensor, wanted: Tensor) -> None:
    """Symbols begin as what the old encoder made of their names, styles and tones as nothing."""
    for block in memory.blocks:
        block.attention.out.weight.zero_()  # type: ignore[union-attr,operator]
        block.feed_forward.down.weight.zero_()  # type: ignore[union-attr,operator]
    plain = {int(n[0]): at for at, n in enumerate(asked) if int(n[1]) == 0}
    for symbol, at in plain.items():
        memory.first[symbol] = wanted[at]
    # (0, 0, 0) is among them


if __name__ == "__main__":
    typer.run(main)
