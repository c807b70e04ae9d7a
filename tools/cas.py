"""*Classification accuracy score*: what does a classifier learn from drawn images?

A classifier is trained on images that were drawn for each class, and tested on real ones (Ravuri
and Vinyals 2019). Beside it stands the same classifier, trained in the same way on as many real
images. A class that is drawn badly, or always alike, teaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.data import cifar
from model.data.pictures import DataError, PictureFormat, PictureSet
from model.evaluation.metrics import on_white, stages, to_encoder_size
from model.evaluation.report import Report, Share, plain, table
from model.evaluation.sampling import Sampler
from model.loading import resolve_dtype
from model.request import Picture
from model.training.optimizer import OptimizerConfig
from model.training.sheet import contact_sheet

WIDTHS = (32, 64, 128)
SHIFT = 4  # pixels at most, of 32
SHOWN = 10  # of each class
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
    """Real test images of one class, and how many of them each classifier names rightly."""

    label: str
    drawn: Share
    real: Share

    def __str__(self) -> str:
        return f"{self.label}: {self.drawn.value:.1%}, from real images {self.real.value:.1%}"


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

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.out(self.layers(images).mean((2, 3)))
        return logits.float()


class CasEvaluation:
    """Of a model that was trained on CIFAR-10 (or data of that form). Raises `DataError`."""

    def __init__(
        self, sampler: Sampler, folder: Path, per_class: int, training: CasTraining
    ) -> None:
        form = PictureFormat(sampler.spec.sizes.width, 3)
        self._sampler = sampler
        self._training = training
        self._train = cifar.load(folder, form, "train")
        self._test = cifar.load(folder, form, "test")
        self._labels = [label for label in cifar.LABELS if label in set(self._train.captions)]
        fewest = min(len(group) for group in self._train.groups)
        if per_class > fewest:
            raise DataError(f"{folder}: has {fewest} training pictures of a class, not {per_class}")
        self._per_class = per_class
        self._shown: list[Picture] = []
        self.lines: list[ClassLine] = []

    @property
    def steps(self) -> int:
        """Of the model and of training together, for a progress bar."""
        drawn = self._per_class * len(self._labels) * self._sampler.steps
        return drawn + 2 * self._training.steps

    def run(self, on_step: Callable[[int], None] = lambda steps: None) -> Iterator[ClassLine]:
        """Draws and trains both classifiers; then a line for all classes, and one for each."""
        classes = torch.arange(len(self._labels)).repeat_interleave(self._per_class)
        drawn = torch.cat([self._drawn(label, on_step) for label in self._labels])
        real = torch.cat([self._real(label) for label in self._labels])
        answers = self._classes(self._test)
        right = [
            self._named(train_classifier(images, classes, self._training, on_step)) == answers
            for images in (drawn, real)
        ]
        parts = {"all": torch.ones_like(answers, dtype=torch.bool)}
        parts |= {label: answers == k for k, label in enumerate(self._labels)}
        for label, of in parts.items():
            line = ClassLine(label, *(Share(int(r[of].sum()), int(of.sum())) for r in right))
            self.lines.append(line)
            yield line

    def report(self) -> Report:
        """Of what `run` has found."""
        total, *classes = self.lines
        head = ("real test pictures", "learned from drawn ones", "from real ones")
        rows = [(x.label, f"{x.drawn.value:.1%}", f"{x.real.value:.1%}") for x in classes]
        columns = min(SHOWN, self._per_class)
        captions = [label for label in self._labels for _ in range(columns)]
        return Report(
            name="cas",
            spec=self._sampler.spec,
            how=f"{self._sampler}, {self._per_class} a class",
            tables=[table(head, "lrr", [("all", f"**{total.drawn}**", str(total.real)), *rows])],
            figures={
                **self._sampler.as_json(),
                "per_class": self._per_class,
                "drawn": plain(total.drawn),
                "real": plain(total.real),
                "classes": plain(classes),
            },
            sheet=contact_sheet(self._shown, captions, columns=columns, scale=2),
            shows="some of each class",
            file="cas.png",
        )

    def _drawn(self, label: str, on_step: Callable[[int], None]) -> Tensor:
        """uint8 [per_class, 3, S, S]; every class has seeds of its own."""
        count = self._per_class
        begin = self._sampler.seed + self._labels.index(label) * count
        pictures = self._sampler.draw([label] * count, on_step, range(begin, begin + count))
        self._shown += pictures[:SHOWN]
        values = np.stack([on_white(picture) for picture in pictures]).transpose(0, 3, 1, 2)
        return torch.from_numpy((values * 255).round().astype(np.uint8))

    def _real(self, label: str) -> Tensor:
        """uint8 [per_class, 3, S, S]: the first ones."""
        rows = [row for row, name in enumerate(self._train.captions) if name == label]
        return torch.from_numpy(self._train.pictures[rows[: self._per_class]])

    def _classes(self, data: PictureSet) -> Tensor:
        return torch.tensor([self._labels.index(name) for name in data.captions])

    @torch.inference_mode()
    def _named(self, classifier: Classifier) -> Tensor:
        images = torch.from_numpy(self._test.pictures).split(TOGETHER)
        return torch.cat([classifier(to_encoder_size(part)).argmax(1) for part in images])


def train_classifier(
    images: Tensor, classes: Tensor, training: CasTraining, on_step: Callable[[int], None]
) -> Classifier:
    """From uint8 [N, 3, S, S] and [N]: always in the same way, from the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(int(classes.max()) + 1)
        optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05, fused=True)
        for step in range(training.steps):
            for group in optimizer.param_groups:
                group["lr"] = training.optimizer.rate(step, training.steps)
            some = torch.randint(len(images), (training.batch,))
            logits = classifier(_shifted(to_encoder_size(images[some])))
            loss = F.cross_entropy(logits, classes[some], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            on_step(1)
    return classifier.eval()


def _shifted(images: Tensor) -> Tensor:
    """Each moved by up to `SHIFT` pixels, half of all mirrored; edges are mirrored outwards."""
    count, _, side, _ = images.shape
    shift = max(1, SHIFT * side // 32)
    padded = F.pad(images, (shift,) * 4, mode="reflect")
    rows = torch.randint(2 * shift + 1, (count, 1)) + torch.arange(side)
    columns = torch.randint(2 * shift + 1, (count, 1)) + torch.arange(side)
    mirrored = torch.rand(count, 1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    batch = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)
