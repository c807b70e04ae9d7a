"""``python -m tools.rewording MODEL SETS… -o OUT``: a flow that reads prompts in more words.

It gets a new tokenizer, and a prompt encoder that reads every prompt which the sets and their words
make as the old one read the caption (`model.flow.rewording`). A checkpoint to begin training from:
``tessera train SETS… --init OUT``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.evaluation import evaluating


def main(
    model: Annotated[Path, typer.Argument(help="A flow, by name or folder.")],
    sets: Annotated[list[Path], typer.Argument(help="Emoji sets, and a folder with words.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new checkpoint.")],
    vocabulary: Annotated[int, typer.Option(min=300, help="Tokens.")] = 8192,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Tokens with known vectors instead: a folder by tools.word_vectors."),
    ] = None,
    styles: Annotated[
        list[str], typer.Option("--style", help="One that the flow knows; several times.")
    ] = ["noto", "fluent 3d"],  # noqa: B006
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 1500,
    batch: Annotated[int, typer.Option(min=1, help="Prompts a step.")] = 256,
) -> None:
    """Teach a flow's prompt encoder new words and a new tokenizer, without images."""
    with one_line_errors(), evaluating():
        from model.data.emoji import read_records, select
        from model.flow.config import FlowCheckpoint
        from model.flow.rewording import Rewording, reword
        from model.registry import open_checkpoint

        checkpoint = open_checkpoint(model)
        if not isinstance(checkpoint, FlowCheckpoint):
            raise UserError(f"{model}: is a {checkpoint.spec.family}, not a flow")
        records = select(read_records(sets), "train")
        if not records:
            raise UserError("no images in training: give emoji sets beside the words")
        with progress_bar("loss {task.fields[loss]:.3f}") as bar:
            task = bar.add_task("learning words", total=steps, loss=float("nan"))
            reword(
                checkpoint,
                records,
                Rewording(vocabulary, steps, batch, vectors=vectors, styles=frozenset(styles)),
                out,
                lambda loss: bar.update(task, advance=1, loss=loss),
            )
        output.print(str(out), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
