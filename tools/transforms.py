"""How well a checkpoint restores and restyles images that it has never seen.

*Restoration*: a real image is corrupted, restored, and compared with itself on white, beside
methods without a model. One sample from a model of images has about twice the squared error of
their mean (its own spread comes on top), so both are measured: one sample, and the mean of several.

*Restyling*: symbols whose images in one style are held out, from their images in another. Is what
is made nearest to the real image, of all images of that style?
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.data.emoji import Emoji, read_records, select
from model.data.pictures import DataError
from model.evaluation.metrics import Quality, on_white, quality
from model.evaluation.report import Report, Share, plain, table
from model.evaluation.retrieval import Gallery, thumbnail
from model.evaluation.sampling import Sampler, choose_records, natives
from model.request import Operation, Picture, Source
from model.runtime.generate import generate
from model.training.sheet import contact_sheet, to_image
from tools.damage import SAMPLES, TASKS, Task

STRENGTHS = (0.7, 0.85)
WAYS = ((0.0, True), *((strength, named) for strength in STRENGTHS for named in (True, False)))
"""How to restyle: strength (0 is without an image), and whether the symbol is named."""

SHOWN = 6  # examples of each task


@dataclass(frozen=True, slots=True)
class RepairLine:
    """One task's figures. ``baseline`` is the best by PSNR of those in ``others``."""

    task: str
    of: int
    steps: int
    one: Quality
    mean: Quality
    baseline: str
    others: dict[str, Quality]

    @property
    def ahead(self) -> list[str]:
        """The methods without a model that beat the mean of the samples in a figure."""
        names = [name for name, other in self.others.items() if other.ssim > self.mean.ssim]
        better = self.others[self.baseline].psnr > self.mean.psnr
        return [*names, f"{self.baseline} (PSNR)"] if better else names

    def __str__(self) -> str:
        best = self.others[self.baseline].psnr
        return f"{self.task}: {self.mean.psnr:.2f} dB, {self.baseline} {best:.2f} dB"


@dataclass(frozen=True, slots=True)
class RestyleLine:
    """How often an image made in a style is nearest to the real one in that style."""

    style: str
    start: str
    prompt: str
    twin: Share
    chance: float

    @property
    def way(self) -> str:
        return f"{self.start}; {self.prompt}"

    def __str__(self) -> str:
        return f"{self.style} from {self.way}: {self.twin}"


@dataclass(frozen=True, slots=True)
class Example:
    """For people to look at."""

    task: str
    given: Picture
    made: Picture
    real: Picture


class TransformEvaluation:
    """``count`` held-out images for each task, asked for by name and style, and as many restyled
    to each style.

    Nothing is restyled where the data has no symbol whose image in one style alone is held out.
    Raises ``DataError`` where a set is broken, or nothing of it is held out.
    """

    def __init__(self, sampler: Sampler, folders: Sequence[Path], count: int) -> None:
        self._sampler = sampler
        self._repairs: list[RepairLine] = []
        self._restyles: list[RestyleLine] = []
        self._examples: list[Example] = []
        self._all = read_records(folders)
        unseen = select(self._all, "held-out style")
        held_out = [*unseen, *select(self._all, "held-out tone")]
        if not held_out:
            raise DataError("none of these images is held out of training")
        self._records = choose_records(held_out, count)
        self._pairs = self._in_two_styles(unseen, count)

    @property
    def steps(self) -> int:
        """That `run` takes, for a progress bar."""
        repairs = sum(
            self._steps(task.operation, **task.parameters) * task.samples for task in TASKS
        )
        ways = sum(self._steps("vary" if strength else "generate") for strength, _ in WAYS)
        return repairs * len(self._records) + ways * sum(map(len, self._pairs.values()))

    def _steps(self, operation: Operation, **more: float) -> int:
        return int(self._sampler.request("", operation=operation, more=more).value("steps"))

    def run(
        self, on_step: Callable[[int], None] = lambda steps: None
    ) -> Iterator[RepairLine | RestyleLine]:
        """One task after the other, then one way to restyle after the other."""
        pictures = natives(self._sampler.spec, self._records)
        for task in TASKS:
            line = self._repair(task, pictures, on_step)
            self._repairs.append(line)
            yield line
        if self._pairs:
            gallery = Gallery(self._all)
            for pairs in self._pairs.values():
                starts = natives(self._sampler.spec, [seen for seen, _ in pairs])
                wanted = [unseen for _, unseen in pairs]
                for strength, named in WAYS:
                    restyled = self._restyle(gallery, starts, wanted, strength, named, on_step)
                    self._restyles.append(restyled)
                    yield restyled

    def report(self) -> Report:
        """Of what `run` has found."""
        return Report(
            name="transform",
            spec=self._sampler.spec,
            how=f"{self._sampler}; PSNR in dB and SSIM, on white",
            tables=[repair_table(self._repairs), _restyle_table(self._restyles)],
            figures={
                **self._sampler.as_json(),
                "repairs": plain(self._repairs),
                "restyle": plain(self._restyles),
            },
            sheet=_before_and_after(self._examples),
            shows="given, made and real",
            file="transform.png",
        )

    def _repair(
        self, task: Task, pictures: Sequence[Picture], on_step: Callable[[int], None]
    ) -> RepairLine:
        seed = self._sampler.seed
        sources = [
            task.corrupt(picture, np.random.default_rng([seed, index]))
            for index, picture in enumerate(pictures)
        ]
        requests = [
            self._sampler.request(
                record.caption, seed + sample, task.operation, source, task.parameters
            )
            for record, source in zip(self._records, sources, strict=True)
            for sample in range(task.samples)
        ]
        made = list(generate(self._sampler.model, requests, on_step))
        groups = [made[at : at + task.samples] for at in range(0, len(made), task.samples)]
        self._examples += [
            Example(task.name, source.picture, group[0], real)
            for source, group, real in zip(sources, groups, pictures, strict=True)
        ]
        reals = [on_white(picture) for picture in pictures]
        samples = [[on_white(picture) for picture in group] for group in groups]
        others = {
            name: quality([baseline(source) for source in sources], reals)
            for name, baseline in task.baselines.items()
        }
        return RepairLine(
            task=task.name,
            of=len(reals),
            steps=self._steps(task.operation, **task.parameters),
            one=quality([group[0] for group in samples], reals),
            mean=quality([np.mean(group, 0) for group in samples], reals),
            baseline=max(others, key=lambda name: others[name].psnr),
            others=others,
        )

    def _restyle(
        self,
        gallery: Gallery,
        starts: Sequence[Picture],
        wanted: Sequence[Emoji],
        strength: float,
        named: bool,
        on_step: Callable[[int], None],
    ) -> RestyleLine:
        style = wanted[0].style
        prompts = [record.caption if named else f"{style} style" for record in wanted]
        if strength:
            requests = [
                self._sampler.request(
                    prompt, operation="vary", source=Source(picture), more={"strength": strength}
                )
                for prompt, picture in zip(prompts, starts, strict=True)
            ]
            made = list(generate(self._sampler.model, requests, on_step))
        else:
            made = self._sampler.draw(prompts, on_step)
        if strength == STRENGTHS[0] and named:
            self._examples += [
                Example(f"restyle to {style}", start, picture, real)
                for start, picture, real in zip(
                    starts, made, natives(self._sampler.spec, wanted), strict=True
                )
            ]
        hits = sum(
            gallery.finds(thumbnail(to_image(picture)), record, style)
            for picture, record in zip(made, wanted, strict=True)
        )
        return RestyleLine(
            style,
            f"another style's, {strength:g}" if strength else "noise",
            "name, style" if named else "style",
            Share(hits, len(made)),
            1 / sum(record.style == style for record in self._all),
        )

    def _in_two_styles(
        self, unseen: Sequence[Emoji], count: int
    ) -> dict[str, list[tuple[Emoji, Emoji]]]:
        """By style, seen records of another style and their unseen counterparts, one a symbol."""
        seen: dict[str, list[Emoji]] = defaultdict(list)
        for record in select(self._all, "train"):
            seen[record.codepoints].append(record)
        draw = random.Random(0)
        pairs: dict[str, list[tuple[Emoji, Emoji]]] = {}
        for style in sorted({record.style for record in unseen}):
            known = [r for r in unseen if r.style == style and r.codepoints in seen]
            chosen = choose_records(known, count)
            if chosen:
                pairs[style] = [(draw.choice(seen[each.codepoints]), each) for each in chosen]
        return pairs


def repair_table(lines: Sequence[RepairLine]) -> str:
    """Markdown; the last column names the methods without a model that were better in a figure."""
    drawn = ("task", "n", "steps", "one sample", f"mean of {SAMPLES}")
    head = (*drawn, "without a model", "ahead of the mean")
    rows = [
        (
            *(line.task, str(line.of), str(line.steps), _both(line.one), _both(line.mean)),
            f"{line.baseline}: {_both(line.others[line.baseline])}",
            ", ".join(line.ahead) or "none",
        )
        for line in lines
    ]
    return table(head, "lrrllll", rows)


def _both(of: Quality) -> str:
    return f"{of.psnr:.2f} / {of.ssim:.3f}"


def _restyle_table(lines: Sequence[RestyleLine]) -> str:
    """Markdown: a row for each style, a column for each way."""
    ways = list(dict.fromkeys(line.way for line in lines))
    by_style: dict[str, dict[str, RestyleLine]] = defaultdict(dict)
    for line in lines:
        by_style[line.style][line.way] = line
    rows = []
    for style, of_way in by_style.items():
        any_ = next(iter(of_way.values()))
        shares = [of_way[way].twin for way in ways]
        rows.append((style, str(any_.twin.of), *map(str, shares), f"{any_.chance:.2%}"))
    return table(("to", "n", *ways, "by chance"), "lr" + "l" * len(ways) + "r", rows)


def _before_and_after(examples: Sequence[Example]) -> Image.Image:
    """A row for each task: given, made, real, for a few images."""
    pictures: list[Picture] = []
    captions: list[str] = []
    by_task: dict[str, list[Example]] = {}
    for example in examples:
        by_task.setdefault(example.task, []).append(example)
    for task, of_task in by_task.items():
        for example in of_task[:SHOWN]:
            size = (example.real.width, example.real.height)
            given = to_image(example.given).resize(size, Image.Resampling.NEAREST)
            shown = Picture(*size, example.given.channels, given.tobytes())
            pictures += [shown, example.made, example.real]
            captions += [task, "made", "real"]
    columns = 3 * min(SHOWN, len(next(iter(by_task.values()))))
    return contact_sheet(pictures, captions, columns=columns, scale=1)
