"""``python -m tools.sheets DATA…``: pictures of a flow's card, docs/pictures/{styles,unseen}.webp.

*Styles*: twelve symbols in each style that the model's card lists. *Unseen*: symbols that training
never saw in that style, drawn, beside the real images: the first ones, not the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from app.cli.console import UserError, one_line_errors, output, progress_bar
from app.cli.evaluation import TILE, Data, evaluating
from app.cli.options import Chosen, Device, Precision, choose_model, load_chosen
from model.data.emoji import Emoji, read_records, select
from model.evaluation.sampling import Sampler, choose_records, natives
from model.training.sheet import contact_sheet

SYMBOLS = (
    *("red apple", "fox", "cactus", "hot beverage", "sunflower", "guitar"),
    *("grinning face", "penguin", "rocket", "octopus", "birthday cake", "castle"),
)
UNSEEN = 24
QUALITY = 85  # of the files


def main(
    data: Data,
    model: Chosen = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="A folder.")] = Path("docs/pictures"),
    device: Device = "cpu",
    dtype: Precision = "auto",
) -> None:
    """Draw the pictures of a flow's card."""
    with one_line_errors(), evaluating():
        checkpoint = choose_model(model)
        if not checkpoint.spec.styles:
            raise UserError(f"{checkpoint.spec.id} names no styles in its config.json")
        sampler = Sampler(load_chosen(checkpoint, device, dtype, TILE))
        wanted = unseen(read_records(data), UNSEEN)
        if not wanted:
            raise UserError("none of these images has a style that is held out of training")
        prompts = [f"{name}{style.prompt}" for style in sampler.spec.styles for name in SYMBOLS]
        out.mkdir(parents=True, exist_ok=True)
        with progress_bar() as bar:
            task = bar.add_task("drawing", total=(len(prompts) + len(wanted)) * sampler.steps)
            drawn = sampler.draw(prompts, partial(bar.advance, task))
            styles = contact_sheet(drawn, prompts, columns=len(SYMBOLS), scale=1)
            save(styles, out / "styles.webp")
            made = sampler.draw([record.caption for record in wanted], partial(bar.advance, task))
        real = natives(sampler.spec, wanted)
        pairs = list(chain.from_iterable(zip(made, real, strict=True)))
        captions = list(chain.from_iterable((record.caption, "real") for record in wanted))
        save(contact_sheet(pairs, captions, columns=12, scale=1), out / "unseen.webp")


def unseen(records: Sequence[Emoji], count: int) -> list[Emoji]:
    """Held-out symbols without skin tone, of each style in turn."""
    held_out = [record for record in select(records, "held-out style") if not record.toned]
    styles = sorted({record.style for record in held_out})
    of_style = [
        choose_records([record for record in held_out if record.style == style], count)
        for style in styles
    ]
    return list(islice(chain.from_iterable(zip(*of_style, strict=False)), count))


def save(sheet: Image.Image, path: Path) -> None:
    """And says where."""
    sheet.save(path, quality=QUALITY, method=6)
    output.print(str(path), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
