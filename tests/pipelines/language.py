"""Tiny language models as text encoders, with tokenizers, processors and chat templates.

The tokenizers split as the published ones do. What the pipelines themselves put around a prompt is
what they were trained on here, so it takes as many tokens as in the published models (34 before a
prompt of Qwen-Image, for example, which its pipeline cuts off again); other words are spelt.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, Qwen2Tokenizer

from model.pipelines.processors import without_torchvision
from tests.pipelines.parts import WORDS, library, randomise, t5

hub: Any = transformers  # whose classes mypy takes for stand-ins

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
"""Of Qwen3."""

INSTRUCT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '[SYSTEM_PROMPT]' if message.role == 'system' else '[INST]' }}"
    "{% for part in message.content %}"
    "{{ part.text if part.type == 'text' else '[IMG]' }}"
    "{% endfor %}"
    "{{ '[/SYSTEM_PROMPT]' if message.role == 'system' else '[/INST]' }}{% endfor %}"
)
"""Of Mistral 3."""

QWEN = (
    "system user assistant\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:\nDescribe the key "
    "features of the input image (color, shape, size, texture, objects, background), then explain "
    "how the user's text instruction should alter or modify the image. Generate a new image that "
    "meets the user's requirements while maintaining consistency with the original input where "
    "appropriate.\n\nsystem\nuser\nassistant\nPicture:\n"
)
"""What is in the templates of pipelines with an encoder of Qwen's."""

LUMINA = (
    "You are an assistant designed to generate superior images with the superior degree of "
    "image-text alignment based on textual prompts or user prompts. <Prompt Start> "
)

LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
"""How Llama 3 and its like split."""


def learned(texts: Iterable[str], split: Any, alphabet: Sequence[str]) -> tuple[Any, Any]:
    """Vocabulary and merges of a BPE in which every word of ``texts`` is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, initial_alphabet=list(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


# --- Qwen --------------------------------------------------------------------------------------


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Of Qwen2.5 and Qwen3, with the latter's chat template."""
    plain: Any = Qwen2Tokenizer()
    split = plain.backend_tokenizer.pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary, merges = learned([QWEN, " ".join(("", *WORDS))], split, alphabet)
    special = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        eos_token="<|im_end|>",
        extra_special_tokens=special,
        model_max_length=131_072,
    )
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = CHATML
    return tokenizer


def qwen_processor(tokenizer: Qwen2Tokenizer) -> Any:
    """Reads an image as four tokens."""
    without_torchvision()
    images = hub.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 16 * 16}
    )
    return hub.Qwen2VLProcessor(image_processor=images, tokenizer=tokenizer)


def qwen_vl(tokenizer: Qwen2Tokenizer, seed: int = 11, width: int = 32, layers: int = 2) -> Any:
    """A ``Qwen2_5_VLForConditionalGeneration``."""
    config = hub.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 37,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1000.0,
                "mrope_section": [width // 4 - 2 * (width // 12), width // 12, width // 12],
            },
            "bos_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 23,
            "num_heads": 2,
            "patch_size": 4,
            "window_size": 16,
            "out_hidden_size": width,
            "fullatt_block_indexes": [1],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return randomise(hub.Qwen2_5_VLForConditionalGeneration(config), seed)


def qwen3_config(tokenizer: Qwen2Tokenizer, width: int = 32, layers: int = 3) -> Any:
    return hub.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=width // 2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def qwen3(tokenizer: Qwen2Tokenizer, seed: int = 12, **shape: int) -> Any:
    """A ``Qwen3Model``."""
    return randomise(hub.Qwen3Model(qwen3_config(tokenizer, **shape)), seed)


def qwen3_causal(tokenizer: Qwen2Tokenizer, seed: int = 12, **shape: int) -> Any:
    """A ``Qwen3ForCausalLM``."""
    return randomise(hub.Qwen3ForCausalLM(qwen3_config(tokenizer, **shape)), seed)


# --- Gemma -------------------------------------------------------------------------------------


def gemma_tokenizer() -> Any:
    """Of Gemma 2: spaces are part of words, what is in no word is bytes."""
    instruction = inspect.signature(library.SanaPipeline.__call__).parameters[
        "complex_human_instruction"
    ]
    texts = [
        *instruction.default,
        LUMINA,
        " ".join(WORDS),
    ]
    word = Regex(r"▁?\p{L}+|\p{N}|▁?[^▁\p{L}\p{N}]|▁")
    split = pre_tokenizers.Split(word, behavior="isolated")
    letters = [chr(code) for code in range(33, 127)]
    found, merges = learned([text.replace(" ", "▁") for text in texts], split, letters)
    vocabulary = {token: number for number, token in enumerate(("<pad>", "<eos>", "<bos>"))}
    for token in ("<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "\n", *found):
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = hub.GemmaTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=8192, add_bos_token=True
    )
    tokenizer.padding_side = "right"
    return tokenizer


def gemma2(tokenizer: Any, seed: int = 13, width: int = 32, layers: int = 2) -> Any:
    """A ``Gemma2Model``."""
    config = hub.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=width // 2,
        query_pre_attn_scalar=width // 2,
        sliding_window=64,
    )
    return randomise(hub.Gemma2Model(config), seed)


# --- GLM, Llama, Mistral -------------------------------------------------------------------------


def split_in_bytes(
    start: Sequence[str], special: Sequence[str], texts: Iterable[str] = (), **options: Any
) -> Any:
    """A ``PreTrainedTokenizerFast`` that puts ``start`` before every text."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LETTERS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary, merges = learned([*texts, " ".join(("", *WORDS))], split, alphabet)
    inside = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inside.pre_tokenizer = split
    inside.add_special_tokens([*start, *special])
    numbers = [(token, inside.token_to_id(token)) for token in start]
    inside.post_processor = processors.TemplateProcessing(
        single=" ".join([*start, "$A"]), pair=" ".join([*start, "$A", "$B"]), special_tokens=numbers
    )
    return hub.PreTrainedTokenizerFast(tokenizer_object=inside, **options)


def glm_tokenizer() -> Any:
    """Of GLM-4: pads at the left, begins with ``[gMASK]<sop>``."""
    return split_in_bytes(
        ["[gMASK]", "<sop>"],
        ["<|endoftext|>", "<|user|>", "<|observation|>"],
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        padding_side="left",
        model_max_length=128_000,
    )


def glm(tokenizer: Any, seed: int = 14, width: int = 32, layers: int = 2) -> Any:
    """A ``GlmModel``."""
    config = hub.GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=width // 2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=[tokenizer.eos_token_id],
    )
    return randomise(hub.GlmModel(config), seed)


def llama_tokenizer() -> Any:
    """Of Llama 3."""
    return split_in_bytes(
        ["<|begin_of_text|>"],
        ["<|end_of_text|>", "<|eot_id|>"],
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|eot_id|>",
        model_max_length=131_072,
    )


def llama(tokenizer: Any, seed: int = 15, width: int = 32, layers: int = 2) -> Any:
    """A ``LlamaForCausalLM``."""
    config = hub.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=131_072,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",  # HiDream asks for the attention's weights too
    )
    return randomise(hub.LlamaForCausalLM(config), seed)


def mistral_tokenizer(texts: Iterable[str] = ()) -> Any:
    """Of Mistral 3, with its chat template. ``texts``: those whose words are one token."""
    tokenizer = split_in_bytes(
        ["<s>"],
        ["</s>", "<pad>", *("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")],
        texts,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        model_max_length=2048,
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]}
    )
    tokenizer.chat_template = INSTRUCT
    return tokenizer


def mistral_processor(tokenizer: Any) -> Any:
    """A ``PixtralProcessor``, as FLUX.2 has one for its tokenizer."""
    without_torchvision()
    images = hub.PixtralImageProcessorPil(patch_size={"height": 4, "width": 4})
    return hub.PixtralProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=4,
        spatial_merge_size=2,
        chat_template=INSTRUCT,
    )


def mistral3_config(tokenizer: Any, kind: str, width: int = 32, layers: int = 2) -> Any:
    """``kind``: "mistral" as in FLUX.2, or "ministral3" as in ERNIE-Image."""
    text = {
        "model_type": kind,
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 37,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": width // 2,
        "max_position_embeddings": 4096,
        "sliding_window": None,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if kind == "ministral3":
        text["rope_parameters"] = {
            "rope_type": "yarn",
            "rope_theta": 1000.0,
            "factor": 2.0,
            "original_max_position_embeddings": 2048,
            "llama_4_scaling_beta": 0.1,
        }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 23,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 4,
        "image_size": 32,
    }
    return hub.Mistral3Config(
        text_config=text,
        vision_config=vision,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )


def mistral3(
    tokenizer: Any, seed: int = 16, kind: str = "ministral3", *, head: bool = False, **shape: int
) -> Any:
    """A ``Mistral3Model``, or with ``head`` a ``Mistral3ForConditionalGeneration``."""
    made = hub.Mistral3ForConditionalGeneration if head else hub.Mistral3Model
    return randomise(made(mistral3_config(tokenizer, kind, **shape)), seed)


# --- ByT5 --------------------------------------------------------------------------------------


def byt5_tokenizer() -> ByT5Tokenizer:
    """A token for each byte."""
    return ByT5Tokenizer(model_max_length=512)


def byt5(seed: int = 17) -> Any:
    """A ``T5EncoderModel`` for its tokens."""
    return t5(seed, vocab_size=384)


def as_published(folder: Path) -> None:
    """Gives the classes of a saved pipeline the names that published folders have for them."""
    index = folder / "model_index.json"
    names = {
        "TokenizersBackend": "PreTrainedTokenizerFast",
        "Qwen2VLImageProcessorPil": "Qwen2VLImageProcessor",
    }
    for file in (
        index,
        *folder.glob("*/tokenizer_config.json"),
        *folder.glob("*/*processor*.json"),
    ):
        text = file.read_text()
        for ours, theirs in names.items():
            text = text.replace(f'"{ours}"', f'"{theirs}"')
        file.write_text(text)
