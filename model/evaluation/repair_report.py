"""What an evaluation of repairs leaves behind: ``transform.json``, ``.md`` and ``.png``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from model.evaluation.damage import SAMPLES
from model.evaluation.quality import Example
from model.evaluation.repair import RepairEvaluation, RepairLine
from model.evaluation.report import rounded
from model.evaluation.restyling import RestyleEvaluation, RestyleLine
from model.protocol import Picture
from model.report import contact_sheet, to_image

SHOWN = 6
"""Examples of each task in the picture."""


def write_repair_report(
    folder: Path,
    evaluation: RepairEvaluation,
    lines: Sequence[RepairLine],
    restyling: RestyleEvaluation,
    restyles: Sequence[RestyleLine],
) -> None:
    """Writes all three into ``folder`` (made if missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    spec, sampling = evaluation.model.spec, evaluation.sampling
    report: dict[str, Any] = {
        "model": spec.id,
        "digest": spec.digest,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "seed": sampling.seed,
        "repairs": [asdict(line) for line in lines],
        "restyle": [asdict(line) for line in restyles],
    }
    text = json.dumps(rounded(report), indent=2) + "\n"
    (folder / "transform.json").write_text(text, encoding="utf-8")
    how = f"{sampling.steps} steps, guidance {sampling.guidance:g}, seeds from {sampling.seed}"
    parts = [
        f"`{spec.id}` ({spec.digest[:12]}), {how}; PSNR in dB and SSIM, on white",
        repairs_as_markdown(lines),
        restyles_as_markdown(restyles),
    ]
    (folder / "transform.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    before_and_after([*evaluation.examples, *restyling.examples]).save(folder / "transform.png")


def repairs_as_markdown(lines: Sequence[RepairLine]) -> str:
    """A table; the last column names the methods without a model that were better in a figure."""
    rows = []
    for line in lines:
        best = line.others[line.baseline]
        ahead = [name for name, other in line.others.items() if other.ssim > line.mean.ssim]
        if best.psnr > line.mean.psnr:
            ahead.append(f"{line.baseline} (PSNR)")
        rows.append(
            f"| {line.task} | {line.of} | {line.one.psnr:.2f} / {line.one.ssim:.3f} "
            f"| {line.mean.psnr:.2f} / {line.mean.ssim:.3f} "
            f"| {line.baseline}: {best.psnr:.2f} / {best.ssim:.3f} "
            f"| {', '.join(ahead) or 'none'} |"
        )
    titles = (
        "task",
        "n",
        "one sample",
        f"mean of {SAMPLES}",
        "without a model",
        "ahead of the mean",
    )
    head = f"| {' | '.join(titles)} |"
    return "\n".join([head, "| --- | ---: | --- | --- | --- | --- |", *rows])


def restyles_as_markdown(lines: Sequence[RestyleLine]) -> str:
    """A table."""
    rows = [
        f"| {line.start} | {line.prompt} | {line.twin.of} | {line.twin} | {line.chance:.2%} |"
        for line in lines
    ]
    head = "| start | prompt | n | nearest real picture is the true twin | by chance |"
    return "\n".join([head, "| --- | --- | ---: | --- | ---: |", *rows])


def before_and_after(examples: Sequence[Example]) -> Image.Image:
    """A row for each task: given, made, real, for a few pictures."""
    pictures: list[Picture] = []
    captions: list[str] = []
    for task in dict.fromkeys(example.task for example in examples):
        some = [example for example in examples if example.task == task][:SHOWN]
        for example in some:
            size = (example.real.width, example.real.height)
            given = to_image(example.given).resize(size, Image.Resampling.NEAREST)
            shown = Picture(*size, example.given.channels, given.tobytes())
            pictures += [shown, example.made, example.real]
            captions += [task, "made", "real"]
    columns = 3 * min(SHOWN, sum(example.task == examples[0].task for example in examples))
    return contact_sheet(pictures, captions, columns=columns, scale=1)
