"""A prompt encoder with a new tokenizer must read prompts as the old one read captions."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import WEIGHTS
from model.data.emoji import read_records, select
from model.flow.config import FlowCheckpoint
from model.flow.network import FlowTransformer
from model.flow.rewording import Rewording, reword
from model.loading import read_weights
from model.training.optimizer import OptimizerConfig
from model.training.start import start_training
from tests.emoji_sets import make_set, make_words
from tests.training import Listener, make_vectors, tiny_training


def read(folder: Path, prompt: str) -> torch.Tensor:
    checkpoint = FlowCheckpoint.open(folder)
    network = FlowTransformer(checkpoint.config.network)
    network.load_state_dict(read_weights(folder / WEIGHTS, network.state_dict()))
    with torch.inference_mode():
        tokens = torch.tensor([checkpoint.tokenizer.padded(prompt, 24)])
        summary: torch.Tensor = network.reader.encoder(tokens)
    return summary


@pytest.mark.parametrize("known", [False, True], ids=["trained", "known vectors"])
def test_prompts_are_read_as_captions_were(tmp_path: Path, known: bool) -> None:
    """Also in a style and a language that the old model did not know; with tokens whose vectors
    are trained, and with ones that are known."""
    symbols = {"1f436": "dog", "1f680": "rocket", "1f34e": "red apple"}
    noto = make_set(tmp_path / "noto", "noto", symbols)
    before = start_training(tiny_training(noto, tmp_path / "run", steps=1), Listener())
    sets = [noto, make_set(tmp_path / "pixel", "pixel", symbols), make_words(tmp_path / "words")]
    folder = tmp_path / "vectors"
    words = ["dog", "rocket", "red", "apple", "noto", "pixel", "style", "Hundegesicht"]
    vectors = make_vectors(folder, words) if known else None
    losses: list[float] = []
    reword(
        FlowCheckpoint.open(before),
        select(read_records(sets), "train"),
        Rewording(
            400,
            200,
            32,
            OptimizerConfig(3e-3, warmup_steps=5, cooldown=0.5),
            vectors=folder if known else None,
        ),
        tmp_path / "after",
        losses.append,
    )
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])
    wanted = {text: read(before, f"{text}, noto style") for text in symbols.values()}
    for prompt in ("dog, pixel style", "Hundegesicht, noto style"):
        found = read(tmp_path / "after", prompt)
        distance = {text: float((found - each).square().mean()) for text, each in wanted.items()}
        assert min(distance, key=lambda text: distance[text]) == "dog"
    if vectors is not None:
        kept = load_file(tmp_path / "after" / WEIGHTS)
        assert torch.equal(kept["reader.encoder.embedding.codes"], vectors["codes"])
