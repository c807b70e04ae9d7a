"""From what ``tessera train`` was told to a recipe, with networks of that shape."""

from __future__ import annotations

import random
from dataclasses import fields

from model.checkpoint import Checkpoint
from model.config import CodecConfig, CriticConfig, FlowConfig, GanConfig, GptConfig, TextConfig
from model.data.pictures import PictureSet
from model.flow.recipe import FlowRecipe, FlowTraining
from model.gan.recipe import GanRecipe, GanTraining
from model.gpt.codec import Codec
from model.gpt.codec_recipe import CodecRecipe, CodecTraining
from model.gpt.recipe import GptRecipe, GptTraining
from model.optimizer import OptimizerConfig
from model.recipe import Recipe, Start
from model.tokenizer import PromptTokenizer
from model.training_options import TrainingOptions

VOCABULARY = 2048
PROMPTS_A_PICTURE = 8  # drawn to learn the tokenizer from

LATENT = 256
"""Numbers of a gan's latent; some more or less where the patches do not divide them."""


def recipe_of(
    options: TrainingOptions, data: PictureSet, optimizer: OptimizerConfig, codec: Codec | None
) -> Recipe:
    """``codec`` is there for a gpt. Raises ``ValueError`` for sizes that do not divide."""
    if options.family == "codec":
        training = CodecTraining(_codec(options))
        return CodecRecipe(data, training, optimizer, options.description, options.licence)
    start = Start(_tokenizer(options, data), options.description, options.licence)
    vocabulary = start.tokenizer.vocabulary
    if codec is not None:
        network = _gpt(options, codec.config, vocabulary)
        return GptRecipe(data, codec, GptTraining(network), optimizer, start)
    if options.family == "gan":
        generator = _gan(options, vocabulary)
        critic = CriticConfig(
            options.size, options.channels, layout_size=generator.layout_size, text=generator.text
        )
        return GanRecipe(data, GanTraining(generator, critic), optimizer, start)
    return FlowRecipe(data, FlowTraining(_flow(options, vocabulary)), optimizer, start)


def _flow(options: TrainingOptions, vocabulary: int) -> FlowConfig:
    shape = options.preset
    return FlowConfig(
        image_size=options.size,
        patch_size=shape.patch,
        channels=options.channels,
        width=shape.width,
        depth=shape.depth,
        heads=shape.heads,
        layout_size=_layout_size(options.size // shape.patch),
        text=TextConfig(vocabulary=vocabulary, width=shape.width, heads=shape.heads),
    )


def _gan(options: TrainingOptions, vocabulary: int) -> GanConfig:
    """A flow's shape, so that it can begin with a flow's weights."""
    flow = _flow(options, vocabulary)
    patches = flow.grid**2
    inherited = {each.name: getattr(flow, each.name) for each in fields(FlowConfig)}
    return GanConfig(**inherited, latent=max(1, LATENT // patches) * patches)


def _codec(options: TrainingOptions) -> CodecConfig:
    shape = options.preset
    return CodecConfig(
        image_size=options.size,
        patch_size=shape.patch,
        channels=options.channels,
        width=shape.width,
        encoder_depth=max(1, shape.depth * 3 // 5),  # the decoder has more to do
        decoder_depth=shape.depth,
        heads=shape.heads,
    )


def _gpt(options: TrainingOptions, codec: CodecConfig, vocabulary: int) -> GptConfig:
    shape = options.preset
    return GptConfig(codec, vocabulary, width=shape.width, depth=shape.depth, heads=shape.heads)


def _layout_size(grid: int) -> int:
    """The least multiple of the grid, of 8 or more."""
    return -(-8 // grid) * grid if grid < 8 else grid


def _tokenizer(options: TrainingOptions, data: PictureSet) -> PromptTokenizer:
    """The tokenizer of this run, of ``init``, or a new one learned from the prompts."""
    kept = options.out / "checkpoint" / "tokenizer.json"
    if options.init is not None:
        return Checkpoint.open(options.init).tokenizer
    if kept.is_file():
        return PromptTokenizer.load(kept)
    draw = random.Random(options.seed)
    prompts = [prompter(draw) for prompter in data.prompters for _ in range(PROMPTS_A_PICTURE)]
    return PromptTokenizer.train([*data.captions, *prompts], VOCABULARY)
