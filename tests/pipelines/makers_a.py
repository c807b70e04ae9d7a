"""Tiny pipelines of FLUX, Stable Diffusion, PixArt, DiT, Chroma and AuraFlow, with random weights.

Each maker writes what ``DiffusionPipeline.from_pretrained`` opens, as published folders are laid
out: with the real classes of the text encoders, and in safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from transformers import LlamaTokenizer, UMT5Config, UMT5EncoderModel

from model.pipelines.processors import without_torchvision
from tests.pipelines.language import (
    as_published,
    mistral3,
    mistral_processor,
    mistral_tokenizer,
    qwen3_causal,
    qwen_tokenizer,
)
from tests.pipelines.parts import (
    WORDS,
    as_older_clip,
    as_older_t5,
    clip,
    clip_projected,
    clip_tokenizer,
    kl,
    library,
    randomise,
    t5,
    t5_tokenizer,
)

SIZES: dict[str, tuple[int, int]] = {
    "flux-dev": (96, 64),
    "flux-schnell": (64, 64),
    "flux-open": (64, 72),
    "flux-kontext": (64, 96),
    "flux2-dev": (96, 64),
    "flux2-klein": (64, 72),
    "flux2-klein-base": (72, 64),
    "sd3": (32, 24),
    "sd3.5": (24, 32),
    "sd3.5-medium": (32, 24),
    "sd3.5-turbo": (32, 32),
    "sdxl": (32, 48),
    "sdxl-turbo": (32, 32),
    "chroma": (64, 72),
    "aura-flow": (96, 64),
    "pixart-alpha": (64, 96),
    "pixart-sigma": (32, 48),
    "dit": (32, 32),
}
"""Width and height of small images that each draws."""

LABELS = {
    1: "goldfish, Carassius auratus",
    100: "black swan, Cygnus atratus",
    134: "crane",
    151: "Chihuahua",
    207: "golden retriever",
    208: "Labrador retriever",
    282: "tiger cat",
    407: "ambulance",
    517: "crane",
    948: "Granny Smith",
    980: "volcano",
    999: "toilet tissue, toilet paper, bathroom tissue",
}
"""Of ImageNet's thousand classes, with their numbers there; two of them bear one name."""


def flux_dev(folder: Path) -> None:
    _flux(folder, "FluxPipeline", guidance_embeds=True)


def flux_schnell(folder: Path) -> None:
    _flux(folder, "FluxPipeline", guidance_embeds=False)


def flux_open(folder: Path) -> None:
    """Of those who train [schnell] on, so that it takes classifier-free guidance again."""
    _flux(folder, "FluxPipeline", guidance_embeds=False)


def flux_kontext(folder: Path) -> None:
    _flux(folder, "FluxKontextPipeline", guidance_embeds=True)


def flux2_dev(folder: Path) -> None:
    """Its text encoder's 10th, 20th and 30th layers are read, so it has as many."""
    without_torchvision()
    tokenizer = mistral_tokenizer([SYSTEM_MESSAGE])
    encoder = mistral3(tokenizer, kind="mistral", head=True, width=16, layers=31)
    _flux2(folder, "Flux2Pipeline", mistral_processor(tokenizer), encoder, guidance_embeds=True)


def flux2_klein(folder: Path) -> None:
    _klein(folder, is_distilled=True)


def flux2_klein_base(folder: Path) -> None:
    _klein(folder, is_distilled=False)


def sd3(folder: Path) -> None:
    _sd3(folder)


def sd3_5(folder: Path) -> None:
    """With its norms, and an attention of the image alone beside the joint one."""
    _sd3(folder, qk_norm="rms_norm", dual_attention_layers=(0,))


def sdxl(folder: Path) -> None:
    _sdxl(folder, library.EulerDiscreteScheduler(**_SDXL_NOISE))


def sdxl_turbo(folder: Path) -> None:
    """Its scheduler adds noise at each step."""
    scheduler = library.EulerAncestralDiscreteScheduler
    _sdxl(folder, scheduler(timestep_spacing="trailing", **_SDXL_NOISE))


def chroma(folder: Path) -> None:
    transformer = library.ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    pipeline = library.ChromaPipeline(
        scheduler=library.FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=kl(4),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
        transformer=randomise(transformer, 5),
    )
    pipeline.save_pretrained(folder)


def aura_flow(folder: Path) -> None:
    tokenizer = _llama_tokenizer()
    config = UMT5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=32,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=0,
    )
    transformer = library.AuraFlowTransformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pos_embed_max_size=64 * 64,
    )
    pipeline = library.AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=randomise(UMT5EncoderModel(config), 6),
        vae=_older_kl(),
        transformer=randomise(transformer, 5, 1.5, {"to_out": 3}),
        scheduler=library.FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
    pipeline.save_pretrained(folder)


def pixart_alpha(folder: Path) -> None:
    """At 128 latent pixels a side, its network is also told the size and the aspect."""
    _pixart(folder, "PixArtAlphaPipeline", sample_size=128)


def pixart_sigma(folder: Path) -> None:
    _pixart(folder, "PixArtSigmaPipeline", sample_size=64, use_additional_conditions=False)


def dit(folder: Path) -> None:
    transformer = library.DiTTransformer2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,  # and one more, which means no class
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    pipeline = library.DiTPipeline(
        transformer=randomise(transformer, 5),
        vae=_older_kl(),
        scheduler=library.DDIMScheduler(clip_sample=False),
    )
    pipeline.save_pretrained(folder)
    index = folder / "model_index.json"  # the library reads the labels there, but writes none
    content = json.loads(index.read_text())
    content["id2label"] = {str(number): name for number, name in LABELS.items()}
    index.write_text(json.dumps(content, indent=2))


MAKERS: dict[str, Callable[[Path], None]] = {
    "flux-dev": flux_dev,
    "flux-schnell": flux_schnell,
    "flux-open": flux_open,
    "flux-kontext": flux_kontext,
    "flux2-dev": flux2_dev,
    "flux2-klein": flux2_klein,
    "flux2-klein-base": flux2_klein_base,
    "sd3": sd3,
    "sd3.5": sd3_5,
    "sd3.5-medium": sd3_5,
    "sd3.5-turbo": sd3_5,
    "sdxl": sdxl,
    "sdxl-turbo": sdxl_turbo,
    "chroma": chroma,
    "aura-flow": aura_flow,
    "pixart-alpha": pixart_alpha,
    "pixart-sigma": pixart_sigma,
    "dit": dit,
}

_SDXL_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _flux(folder: Path, pipeline_class: str, *, guidance_embeds: bool) -> None:
    tokenizer = clip_tokenizer()
    transformer = library.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
    )
    dynamic = {"use_dynamic_shifting": True, "shift": 3.0}
    pipeline = getattr(library, pipeline_class)(
        scheduler=library.FlowMatchEulerDiscreteScheduler(**dynamic if guidance_embeds else {}),
        vae=kl(4),
        text_encoder=clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=randomise(transformer, 5, 1.5, {"norm_q": 2, "norm_k": 2}),
    )
    pipeline.save_pretrained(folder)
    as_older_clip(folder / "tokenizer")


def _klein(folder: Path, *, is_distilled: bool) -> None:
    """Its text encoder's 9th, 18th and 27th layers are read, so it has as many."""
    tokenizer = qwen_tokenizer()
    encoder = qwen3_causal(tokenizer, width=16, layers=28)
    _flux2(
        folder,
        "Flux2KleinPipeline",
        tokenizer,
        encoder,
        guidance_embeds=False,
        is_distilled=is_distilled,
    )


def _flux2(
    folder: Path,
    pipeline_class: str,
    tokenizer: Any,
    text_encoder: Any,
    *,
    guidance_embeds: bool,
    **options: Any,
) -> None:
    transformer = library.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * 16,  # three layers of the text encoder, side by side
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
    vae = library.AutoencoderKLFlux2(
        sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    pipeline = getattr(library, pipeline_class)(
        scheduler=library.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=randomise(vae, 4),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=randomise(transformer, 5, 1.5, {"norm_q": 3, "norm_added_k": 2}),
        **options,
    )
    pipeline.save_pretrained(folder)
    as_published(folder)


def _sd3(folder: Path, **options: Any) -> None:
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer("!")
    transformer = library.SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=16,
        pos_embed_max_size=48,
        **options,
    )
    pipeline = library.StableDiffusion3Pipeline(
        scheduler=library.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=kl(16),
        text_encoder=clip_projected(tokenizer, 1),
        tokenizer=tokenizer,
        text_encoder_2=clip_projected(tokenizer_2, 2, hidden_act="gelu"),
        tokenizer_2=tokenizer_2,
        text_encoder_3=t5(width=64),
        tokenizer_3=t5_tokenizer(),
        transformer=randomise(transformer, 5),
    )
    pipeline.save_pretrained(folder)


def _sdxl(folder: Path, scheduler: Any) -> None:
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer("!")
    unet = library.UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + 32,  # six numbers and the pooled text
        cross_attention_dim=64,
    )
    pipeline = library.StableDiffusionXLPipeline(
        vae=kl(4, use_quant_conv=True, use_post_quant_conv=True, shift_factor=None),
        text_encoder=clip(tokenizer),
        text_encoder_2=clip_projected(tokenizer_2, hidden_act="gelu"),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=randomise(unet, 5),
        scheduler=scheduler,
    )
    pipeline.save_pretrained(folder)
    as_older_clip(folder / "tokenizer")
    as_older_clip(folder / "tokenizer_2")


def _pixart(folder: Path, pipeline_class: str, **options: Any) -> None:
    transformer = library.PixArtTransformer2DModel(
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        **options,
    )
    pipeline = getattr(library, pipeline_class)(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=_older_kl(),
        transformer=randomise(transformer, 5),
        scheduler=library.DPMSolverMultistepScheduler(),
    )
    pipeline.save_pretrained(folder)
    as_older_t5(folder / "tokenizer")


def _older_kl() -> Any:
    return kl(4, use_quant_conv=True, use_post_quant_conv=True, shift_factor=None)


def _llama_tokenizer() -> LlamaTokenizer:
    """BPE over letters, with bytes for all that is none: AuraFlow's is of this kind."""
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges: dict[tuple[str, str], None] = {}
    tokens = dict.fromkeys([*vocabulary, "▁", *(chr(code) for code in range(33, 127))])
    for word in WORDS:
        symbols = ["▁", *word]
        while len(symbols) > 1:
            merges[symbols[0], symbols[1]] = None
            symbols[:2] = ["".join(symbols[:2])]
            tokens[symbols[0]] = None
    numbered: Any = {token: number for number, token in enumerate(tokens)}
    pairs: Any = list(merges)
    return LlamaTokenizer(
        vocab=numbered,
        merges=pairs,
        pad_token="</s>",
        padding_side="right",
        model_max_length=512,
    )
