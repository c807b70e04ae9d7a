"""A pipeline class from elsewhere, unknown to the catalogue, and a package that registers it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from tests.pipelines import parts

library: Any = diffusers

REFUSED, BROKEN = "refuse this", "break here"
"""Prompts for which the call itself raises: what was given is wrong, or the code is."""


class MadeUpPipeline(library.DiffusionPipeline):  # type: ignore[misc]
    """Draws by a Sana transformer, CLIP's words and plain Euler steps."""

    def __init__(
        self, transformer: Any, vae: Any, scheduler: Any, text_encoder: Any, tokenizer: Any
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str = "",
        height: int = 32,
        width: int = 32,
        num_inference_steps: int = 7,
        guidance_scale: float = 3.0,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> Any:
        if prompt == REFUSED:
            raise ValueError("this prompt is not for me")
        texts = [prompt] if guidance_scale <= 1 else ["", prompt]
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        words = self.text_encoder(tokens.input_ids).last_hidden_state
        latents = torch.randn(1, 4, height // 2, width // 2, generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for index, time in enumerate(self.scheduler.timesteps):
            if prompt == BROKEN and index == 2:
                raise RuntimeError("nothing is right here")
            batch = torch.cat([latents] * len(texts))
            velocity = self.transformer(
                batch,
                encoder_hidden_states=words,
                timestep=time.expand(len(texts)),
                return_dict=False,
            )[0]
            if len(texts) == 2:
                without, with_prompt = velocity.chunk(2)
                velocity = without + guidance_scale * (with_prompt - without)
            latents = self.scheduler.step(velocity, time, latents, return_dict=False)[0]
        image = self.vae.decode(latents / 2, return_dict=False)[0]
        pixels = (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        return library.ImagePipelineOutput(images=self.numpy_to_pil(np.asarray(pixels)))


def make(folder: Path) -> None:
    """A tiny random one."""
    tokenizer = parts.clip_tokenizer()
    transformer = parts.randomise(
        library.SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=32,
            sample_size=16,
        )
    )
    MadeUpPipeline(
        transformer=transformer,
        vae=parts.kl(),
        scheduler=library.FlowMatchEulerDiscreteScheduler(),
        text_encoder=parts.clip(tokenizer),
        tokenizer=tokenizer,
    ).save_pretrained(folder)


def install(folder: Path) -> dict[str, str]:
    """Writes what pip would: a package's metadata with its entry point; the environment with it."""
    info = folder / "made_up-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[tessera.pipelines]\nMadeUpPipeline = {__name__}:MadeUpPipeline\n"
    )
    root = str(Path(__file__).parents[2])
    return {"PYTHONPATH": os.pathsep.join([str(folder), root])}
