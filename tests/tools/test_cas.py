"""The classification accuracy score: good pictures teach, bad ones do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from model.data import cifar
from model.data.pictures import DataError
from model.evaluation.sampling import Sampler
from model.loading import load_model
from model.registry import open_checkpoint
from model.request import Picture
from model.training.optimizer import OptimizerConfig
from model.training.start import start_training
from tests.tiny import tiny_flow
from tests.training import Listener, tiny_training
from tools.cas import CasEvaluation, CasTraining, train_classifier
from tools.evaluate import evaluation

TRAINING = CasTraining(20, 16, OptimizerConfig(3e-3, warmup_steps=5))
RED, BLUE = (200, 40, 40), (40, 40, 200)


def make_batches(folder: Path, each: int = 12) -> Path:
    """Reddish airplanes and bluish automobiles, in the official layout."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        records = np.empty((2 * each, cifar.RECORD), np.uint8)
        for row, record in enumerate(records):
            record[0] = row % 2
            noise = draw.integers(-30, 30, (3, 1024))
            record[1:] = (np.array((RED, BLUE)[row % 2])[:, None] + noise).clip(0, 255).ravel()
        records.tofile(folder / name)
    return folder


@pytest.fixture
def sampler(tmp_path: Path) -> Sampler:
    checkpoint = open_checkpoint(tiny_flow(tmp_path / "tiny", channels=3))
    model = load_model(checkpoint, device="cpu", dtype="fp32", tile=8)
    return Sampler(model, {"steps": 2, "guidance": 1})


class Painter(Sampler):
    """Paints each class in one colour."""

    def __init__(self, sampler: Sampler, colours: dict[str, tuple[int, int, int]]) -> None:
        super().__init__(sampler.model, {"steps": 2})
        self._colours = colours

    def draw(
        self,
        prompts: Iterable[str],
        on_step: Callable[[int], None] = lambda steps: None,
        seeds: Iterable[int] | None = None,
    ) -> list[Picture]:
        pictures = [Picture(16, 16, 3, bytes(self._colours[prompt]) * 256) for prompt in prompts]
        on_step(self.steps * len(pictures))
        return pictures


def test_who_draws_well_teaches_well_and_who_mixes_classes_up_does_not(
    sampler: Sampler, tmp_path: Path
) -> None:
    folder = make_batches(tmp_path / "cifar")
    scores = []
    for colours in ((RED, BLUE), (BLUE, RED)):
        painter = Painter(sampler, dict(zip(cifar.LABELS[:2], colours, strict=True)))
        evaluation = CasEvaluation(painter, folder, 8, TRAINING)
        done: list[int] = []
        total, *classes = evaluation.run(done.append)
        assert sum(done) == evaluation.steps
        assert total.real.value == 1
        assert [line.label for line in classes] == ["airplane", "automobile"]
        assert sum(line.drawn.of for line in classes) == total.drawn.of == 24
        assert evaluation.report().figures["real"]["value"] == 1
        scores.append(total.drawn.value)
    assert scores == [1, 0]


def test_classifiers_learn_in_the_same_way_every_time() -> None:
    pictures = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
    classes = torch.arange(8) % 2
    one, two = (train_classifier(pictures, classes, TRAINING, lambda _: None) for _ in range(2))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name]), name


def test_more_than_there_is_cannot_be_compared(sampler: Sampler, tmp_path: Path) -> None:
    folder = make_batches(tmp_path / "cifar")
    with pytest.raises(DataError, match="has 12 training pictures of a class, not 13"):
        CasEvaluation(sampler, folder, 13, TRAINING)


def test_a_flow_of_cifar_is_trained_and_scored_by_the_same_commands(tmp_path: Path) -> None:
    folder = make_batches(tmp_path / "cifar")
    changes = {"steps": 3, "size": 32, "patch": 8, "channels": 3}
    options = tiny_training(folder, tmp_path / "run", **changes)
    checkpoint = start_training(options, Listener())
    out = tmp_path / "out"
    command = f"cas {folder} --model {checkpoint} -o {out} -n 4 --steps 2 --training 3"
    result = CliRunner().invoke(evaluation, command)
    assert result.exit_code == 0, result.output
    assert "| real test pictures | learned from drawn ones | from real ones |" in result.output
    assert {path.name for path in out.iterdir()} == {"cas.json", "cas.md", "cas.png"}
    assert "airplane" in (out / "cas.md").read_text(encoding="utf-8")
