"""*Classification accuracy score*: what does a classifier learn from drawn pictures?

A classifier is trained on pictures that were drawn for each class, and tested on real ones (Ravuri
and Vinyals 2019). Beside it stands the same classifier, trained in the same way on as many real
pictures. A class that is drawn badly, or always alike, teaches nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.checkpoint import resolve_dtype
from model.data import cifar
from model.data.pictures import DataError, PictureFormat, PictureSet
from model.evaluation.encoder import stages
from model.evaluation.quality import on_white
from model.evaluation.sampling import Sampling
from model.evaluation.share import Share
from model.optimizer import OptimizerConfig
from model.protocol import ImageModel, Picture, RowRequest
from model.report import contact_sheet
from model.sampling import generate

WIDTHS = (32, 64, 128)
SHIFT = 4  # pixels at most, of 32
SHOWN = 10
TOGETHER = 256


@dataclass(frozen=True, slots=True)
class CasTraining:
    """How each of the two classifiers is trained."""

    steps: int = 1500
    batch: int = 128
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(2e-3, warmup_steps=100, cooldown=0.8)
    )


@dataclass(frozen=True, slots=True)
class ClassLine:
    """Real test pictures of one class, and how many of them each classifier names rightly."""

    label: str
    drawn: Share
    real: Share


@dataclass(frozen=True, slots=True)
class CasReport:
    """Both accuracies, in all and by class."""

    model: str
    digest: str
    sampling: Sampling
    per_class: int
    drawn: Share
    real: Share
    classes: Sequence[ClassLine]

    def as_markdown(self) -> str:
        """What was done, and a table."""
        rows = [
            f"| {line.label} | {line.drawn.value:.1%} | {line.real.value:.1%} |"
            for line in self.classes
        ]
        head = [
            f"`{self.model}` ({self.digest[:12]}), {self.sampling}, {self.per_class} a class",
            "",
            "| real test pictures | learned from drawn ones | from real ones |",
            "| --- | ---: | ---: |",
            f"| all | **{self.drawn}** | {self.real} |",
        ]
        return "\n".join([*head, *rows]) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Classifier(nn.Module):
    """[B, 3, S, S], −1…1 → logits [B, classes]. Small, without batch norm."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        features = WIDTHS[-1]
        self.layers = nn.Sequential(
            *stages(WIDTHS, first_stride=1), nn.GroupNorm(8, features), nn.SiLU()
        )
        self.out = nn.Linear(features, classes)
        self.bf16 = resolve_dtype("auto", "cpu") == "bf16"

    def forward(self, pictures: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.out(self.layers(pictures).mean((2, 3)))
        return logits.float()


class CasEvaluation:
    """Of a model that was trained on CIFAR-10 (or data of that form). Raises `DataError`."""

    def __init__(
        self,
        model: ImageModel[Any],
        folder: Path,
        sampling: Sampling,
        per_class: int,
        training: CasTraining,
    ) -> None:
        form = PictureFormat(model.spec.size, 3)
        self._model = model
        self._sampling = sampling
        self._training = training
        self._train = cifar.load(folder, form, "train")
        self._test = cifar.load(folder, form, "test")
        self._labels = [label for label in cifar.LABELS if label in set(self._train.captions)]
        fewest = min(len(group) for group in self._train.groups)
        if per_class > fewest:
            raise DataError(f"{folder}: has {fewest} training pictures of a class, not {per_class}")
        self._per_class = per_class
        self.sheet: list[tuple[str, Picture]] = []

    @property
    def steps(self) -> int:
        """Of the solver and of training together, for a progress bar."""
        drawn = self._per_class * len(self._labels) * self._sampling.steps
        return drawn + 2 * self._training.steps

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> CasReport:
        """Draws, and trains both classifiers."""
        classes = torch.arange(len(self._labels)).repeat_interleave(self._per_class)
        drawn = torch.cat([self._drawn(label, on_step) for label in self._labels])
        real = torch.cat([self._real(label) for label in self._labels])
        answers = self._classes(self._test)
        from_drawn, from_real = (
            self._named(train_classifier(pictures, classes, self._training, on_step)) == answers
            for pictures in (drawn, real)
        )
        spec = self._model.spec
        return CasReport(
            model=spec.id,
            digest=spec.digest,
            sampling=self._sampling,
            per_class=self._per_class,
            drawn=_share(from_drawn),
            real=_share(from_real),
            classes=[
                ClassLine(label, _share(from_drawn[of]), _share(from_real[of]))
                for label, of in ((each, answers == k) for k, each in enumerate(self._labels))
            ],
        )

    def _drawn(self, label: str, on_step: Callable[[int], None]) -> Tensor:
        """uint8 [per_class, 3, S, S]; every class has seeds of its own."""
        how = self._sampling
        begin = how.seed + self._labels.index(label) * self._per_class
        requests = [
            RowRequest(label, begin + k, how.steps, how.guidance) for k in range(self._per_class)
        ]
        pictures = list(generate(self._model, requests, on_step))
        self.sheet += [(label, picture) for picture in pictures[:SHOWN]]
        return torch.from_numpy(np.stack([_values(picture) for picture in pictures]))

    def _real(self, label: str) -> Tensor:
        """uint8 [per_class, 3, S, S]: the first ones."""
        data = self._train
        places = [place for place, name in enumerate(data.captions) if name == label]
        return torch.from_numpy(data.pictures[places[: self._per_class]])

    def _classes(self, data: PictureSet) -> Tensor:
        return torch.tensor([self._labels.index(name) for name in data.captions])

    @torch.inference_mode()
    def _named(self, classifier: Classifier) -> Tensor:
        pictures = torch.from_numpy(self._test.pictures).split(TOGETHER)
        return torch.cat([classifier(_scaled(part)).argmax(1) for part in pictures])


def train_classifier(
    pictures: Tensor, classes: Tensor, training: CasTraining, on_step: Callable[[int], None]
) -> Classifier:
    """From uint8 [N, 3, S, S] and [N]: always in the same way, from the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(int(classes.max()) + 1)
        optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05, fused=True)
        for step in range(training.steps):
            for group in optimizer.param_groups:
                group["lr"] = training.optimizer.rate(step, training.steps)
            some = torch.randint(len(pictures), (training.batch,))
            logits = classifier(_shifted(_scaled(pictures[some])))
            loss = F.cross_entropy(logits, classes[some], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            on_step(1)
    return classifier.eval()


def write_cas_report(folder: Path, report: CasReport, sheet: Sequence[tuple[str, Picture]]) -> None:
    """``cas.json``, ``cas.md`` and ``cas.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(report.as_json(), indent=2) + "\n"
    (folder / "cas.json").write_text(written, encoding="utf-8")
    text = report.as_markdown() + "\n![some of each class](cas.png)\n"
    (folder / "cas.md").write_text(text, encoding="utf-8")
    columns = sum(label == sheet[0][0] for label, _ in sheet)
    pictures, labels = [picture for _, picture in sheet], [label for label, _ in sheet]
    contact_sheet(pictures, labels, columns=columns, scale=2).save(folder / "cas.png")


def _share(right: Tensor) -> Share:
    return Share(int(right.sum()), len(right))


def _values(picture: Picture) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return (on_white(picture).transpose(2, 0, 1) * 255).round().astype(np.uint8)


def _scaled(pictures: Tensor) -> Tensor:
    return pictures.float() / 127.5 - 1


def _shifted(pictures: Tensor) -> Tensor:
    """Each moved by up to `SHIFT` pixels, half of all mirrored; edges are mirrored outwards."""
    count, _, side, _ = pictures.shape
    shift = max(1, SHIFT * side // 32)
    padded = F.pad(pictures, (shift,) * 4, mode="reflect")
    rows = torch.randint(2 * shift + 1, (count, 1)) + torch.arange(side)
    columns = torch.randint(2 * shift + 1, (count, 1)) + torch.arange(side)
    mirrored = torch.rand(count, 1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    batch = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)
