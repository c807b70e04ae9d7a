"""Tiny random pipelines: Qwen-Image, Z-Image, Sana, Lumina, HunyuanImage, CogView, ERNIE, HiDream.

Each has its real classes, the scheduler's configuration of its published model, and two layers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pipelines import language, parts
from tests.pipelines.parts import library, randomise


def _save(pipeline: Any, folder: Path) -> None:
    pipeline.save_pretrained(folder)
    language.as_published(folder)


def _flow(**options: Any) -> Any:
    return library.FlowMatchEulerDiscreteScheduler(**options)


def _with_side(transformer: Any, side: int) -> Any:
    """Says the native side in latent pixels, where the class has no such key."""
    transformer.register_to_config(sample_size=side)
    return transformer


# --- Qwen-Image --------------------------------------------------------------------------------


def _qwen_parts(halvings: int, **options: Any) -> dict[str, Any]:
    """``halvings``: how often the autoencoder halves a side."""
    tokenizer = language.qwen_tokenizer()
    transformer = library.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 2, 2),
        **options,
    )
    vae = library.AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1] * (halvings + 1),
        num_res_blocks=0,
        temperal_downsample=[False] + [True] * (halvings - 1),
        latents_mean=[-0.1, 0.1, 0.2, -0.2],
        latents_std=[1.1, 0.9, 1.2, 0.8],
    )
    return {
        "scheduler": _flow(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            max_image_seq_len=8192,
            shift_terminal=0.02,
        ),
        "vae": randomise(vae, 21),
        "text_encoder": language.qwen_vl(tokenizer),
        "tokenizer": tokenizer,
        "transformer": _with_side(randomise(transformer, 22), 8),
    }


def qwen_image(folder: Path) -> None:
    """Four pixels along a side for each of the latent."""
    _save(library.QwenImagePipeline(**_qwen_parts(2)), folder)


def qwen_edit(folder: Path) -> None:
    """32 pixels along a side: it reads every image at about a million pixels."""
    given = _qwen_parts(5)
    processor = language.qwen_processor(given["tokenizer"])
    _save(library.QwenImageEditPipeline(processor=processor, **given), folder)


def qwen_edit_plus(folder: Path) -> None:
    """As of 2511: images that are read have a timestep of their own, 0."""
    given = _qwen_parts(5, zero_cond_t=True)
    processor = language.qwen_processor(given["tokenizer"])
    _save(library.QwenImageEditPlusPipeline(processor=processor, **given), folder)


# --- Z-Image -----------------------------------------------------------------------------------


def _z_image(folder: Path, shift: float) -> None:
    tokenizer = language.qwen_tokenizer()
    transformer = library.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=32,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    pipeline = library.ZImagePipeline(
        scheduler=_flow(shift=shift),
        vae=parts.kl(4, 23, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=language.qwen3(tokenizer),
        tokenizer=tokenizer,
        transformer=_with_side(randomise(transformer, 24), 16),
    )
    _save(pipeline, folder)


def z_image(folder: Path) -> None:
    _z_image(folder, shift=6.0)


def z_image_turbo(folder: Path) -> None:
    _z_image(folder, shift=3.0)


# --- Sana --------------------------------------------------------------------------------------


def _sana_parts(**options: Any) -> dict[str, Any]:
    """32 pixels along a side for each of the latent, which its pipelines insist on."""
    tokenizer = language.gemma_tokenizer()
    transformer = library.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=32,
        sample_size=4,
        **options,
    )
    levels = 6
    vae = library.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * (levels - 1) + ("EfficientViTBlock",),
        decoder_block_types=("ResBlock",) * (levels - 1) + ("EfficientViTBlock",),
        encoder_block_out_channels=(4,) * levels,
        decoder_block_out_channels=(4,) * levels,
        encoder_layers_per_block=(1,) * levels,
        decoder_layers_per_block=(1,) * levels,
        encoder_qkv_multiscales=((),) * (levels - 1) + ((5,),),
        decoder_qkv_multiscales=((),) * (levels - 1) + ((5,),),
        upsample_block_type="interpolate",
        downsample_block_type="conv",
        scaling_factor=0.41407,
    )
    return {
        "tokenizer": tokenizer,
        "text_encoder": language.gemma2(tokenizer),
        "vae": randomise(vae, 25),
        "transformer": randomise(transformer, 26),
    }


def sana(folder: Path) -> None:
    scheduler = library.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    _save(library.SanaPipeline(scheduler=scheduler, **_sana_parts()), folder)


def sana_sprint(folder: Path) -> None:
    given = _sana_parts(guidance_embeds=True, qk_norm="rms_norm_across_heads", timestep_scale=1.0)
    _save(library.SanaSprintPipeline(scheduler=library.SCMScheduler(), **given), folder)


# --- Lumina, HunyuanImage, CogView, ERNIE --------------------------------------------------------


def lumina2(folder: Path) -> None:
    """Eight pixels along a side for each of the latent, which its pipeline takes for granted."""
    tokenizer = language.gemma_tokenizer()
    transformer = library.Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=32,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(8, 4, 4),
        cap_feat_dim=32,
    )
    levels = 4
    vae = parts.kl(
        4,
        27,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    pipeline = library.Lumina2Pipeline(
        transformer=randomise(transformer, 28),
        scheduler=_flow(shift=6.0),
        vae=vae,
        text_encoder=language.gemma2(tokenizer),
        tokenizer=tokenizer,
    )
    _save(pipeline, folder)


def _hunyuan_parts(**options: Any) -> dict[str, Any]:
    tokenizer = language.qwen_tokenizer()
    transformer = library.HunyuanImageTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=1,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=32,
        text_embed_2_dim=32,
        rope_axes_dim=(8, 8),
        **options,
    )
    vae = library.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=16,
        block_out_channels=(32,) * 4,  # its norms have 32 groups
        layers_per_block=1,
        spatial_compression_ratio=8,
        sample_size=64,
        scaling_factor=0.75289,
    )
    return {
        "scheduler": _flow(shift=5.0),
        "vae": randomise(vae, 29),
        "text_encoder": language.qwen_vl(tokenizer, layers=3),
        "tokenizer": tokenizer,
        "text_encoder_2": language.byt5(),
        "tokenizer_2": language.byt5_tokenizer(),
        "transformer": _with_side(randomise(transformer, 30, gain=1.8), 8),
    }


def hunyuan_image(folder: Path) -> None:
    """Its guiders remember earlier steps, from the third on instead of the seventh."""
    guider = {"adaptive_projected_guidance_start_step": 1}
    pipeline = library.HunyuanImagePipeline(
        **_hunyuan_parts(),
        guider=library.AdaptiveProjectedMixGuidance(guidance_scale=3.5, **guider),
        ocr_guider=library.AdaptiveProjectedMixGuidance(guidance_scale=2.5, **guider),
    )
    _save(pipeline, folder)


def hunyuan_image_distilled(folder: Path) -> None:
    """Guidance is embedded, and so is the time that a step ends at."""
    given = _hunyuan_parts(guidance_embeds=True, use_meanflow=True)
    _save(library.HunyuanImagePipeline(**given), folder)


def cogview4(folder: Path) -> None:
    tokenizer = language.glm_tokenizer()
    transformer = library.CogView4Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=32,
        time_embed_dim=16,
        condition_dim=8,
        pos_embed_max_size=32,
        sample_size=16,
        rope_axes_dim=(32, 32),
    )
    pipeline = library.CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=language.glm(tokenizer),
        vae=parts.kl(
            4,
            31,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8,) * 4,
            scaling_factor=1.0,
        ),
        transformer=randomise(transformer, 32),
        scheduler=_flow(
            use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear"
        ),
    )
    _save(pipeline, folder)


def ernie_image(folder: Path) -> None:
    """Without the model that rewrites prompts."""
    tokenizer = language.mistral_tokenizer()
    transformer = library.ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=48,
        in_channels=16,
        out_channels=16,
        text_in_dim=32,
        rope_axes_dim=(8, 4, 4),
    )
    vae = library.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    pipeline = library.ErnieImagePipeline(
        transformer=_with_side(randomise(transformer, 33), 16),
        vae=randomise(vae, 34),
        text_encoder=language.mistral3(tokenizer),
        tokenizer=tokenizer,
        scheduler=_flow(shift=3.0),
    )
    _save(pipeline, folder)


# --- HiDream -----------------------------------------------------------------------------------


def _hidream(folder: Path, scheduler: Any) -> None:
    """As many latent pixels as its pipeline always draws, and one pixel for each of them.

    In patches of 4 rather than 2 latent pixels: two of the sizes of its entry are no multiples.
    """
    clip, llama = parts.clip_tokenizer(), language.llama_tokenizer()
    transformer = library.HiDreamImageTransformer2DModel(
        patch_size=4,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=[32, 32],
        text_emb_dim=64,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(128, 128),
        llama_layers=[0, 1],
    )
    pipeline = library.HiDreamImagePipeline(
        scheduler=scheduler,
        vae=parts.kl(
            4,
            35,
            down_block_types=("DownEncoderBlock2D",),
            up_block_types=("UpDecoderBlock2D",),
            block_out_channels=(8,),
            mid_block_add_attention=False,
        ),
        text_encoder=parts.clip_projected(clip, 36, max_position_embeddings=248),
        tokenizer=clip,
        text_encoder_2=parts.clip_projected(clip, 37, max_position_embeddings=248),
        tokenizer_2=parts.clip_tokenizer(),
        text_encoder_3=parts.t5(38),
        tokenizer_3=parts.t5_tokenizer(),
        text_encoder_4=language.llama(llama),
        tokenizer_4=llama,
        transformer=randomise(transformer, 39),
    )
    _save(pipeline, folder)


def hidream(folder: Path) -> None:
    scheduler = library.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    _hidream(folder, scheduler)


def hidream_distilled(folder: Path) -> None:
    """Its scheduler draws noise in each step, and its pipeline gives it no generator."""
    _hidream(folder, library.FlowMatchLCMScheduler(shift=6.0))


MAKERS: dict[str, Callable[[Path], None]] = {
    "qwen-image": qwen_image,
    "qwen-edit": qwen_edit,
    "qwen-edit-plus": qwen_edit_plus,
    "z-image": z_image,
    "z-image-turbo": z_image_turbo,
    "sana": sana,
    "sana-sprint": sana_sprint,
    "lumina2": lumina2,
    "hunyuan-image": hunyuan_image,
    "hunyuan-image-distilled": hunyuan_image_distilled,
    "cogview4": cogview4,
    "ernie-image": ernie_image,
    "ernie-image-turbo": ernie_image,
    "hidream": hidream,
    "hidream-i1-dev": hidream_distilled,
    "hidream-i1-fast": hidream_distilled,
}
"""What each writes into a folder, by the name that the folder should have."""

SIZES: dict[str, tuple[int, int]] = {
    "qwen-image": (32, 32),
    "qwen-edit": (256, 256),
    "qwen-edit-plus": (256, 256),
    "z-image": (32, 32),
    "z-image-turbo": (32, 32),
    "sana": (128, 128),
    "sana-sprint": (128, 128),
    "lumina2": (64, 64),
    "hunyuan-image": (64, 64),
    "hunyuan-image-distilled": (64, 64),
    "cogview4": (128, 128),
    "ernie-image": (32, 32),
    "ernie-image-turbo": (32, 32),
    "hidream": (128, 128),
    "hidream-i1-dev": (128, 128),
    "hidream-i1-fast": (128, 128),
}
"""The native width and height of each."""

WIDE: dict[str, tuple[int, int]] = {
    name: (156, 104) if name.startswith("hidream") else (width, height // 2)
    for name, (width, height) in SIZES.items()
}
"""A size of each that is no square."""
