"""A decoder for previews that costs next to nothing: colours as a linear map of latents.

The map is fitted to the pipeline's own VAE at the start: patches of flat colour and slow gradients
are encoded and decoded, and the least-squares solution from each latent pixel to the mean colour of
the pixels that it becomes is kept. As in the maps that interfaces publish for known models
(ComfyUI's latent formats), detail is lost and colours and shapes stay.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLES, CELLS, SIDE = 8, 4, 16
"""Images that it is fitted to: so many, of so many cells along each side, in latent pixels."""


class LinearDecoder:
    """Takes a VAE's place where latents are decoded. All else is the VAE's: configuration,
    statistics, and the encoder, which some pipelines call before they begin."""

    def __init__(self, vae: Any, weight: Tensor, scale: int) -> None:
        self._vae = vae
        self._weight = weight  # fp32 [C + 1, 3], the last row is added
        self._scale = scale

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vae, name)

    @classmethod
    @torch.inference_mode()
    def fitted(cls, vae: Any) -> LinearDecoder:
        """Encodes and decodes a few images. Whatever the VAE raises comes through."""
        probe = 64
        scale = probe // _encoded(vae, torch.zeros(1, 3, probe, probe)).shape[-1]
        known, wanted = [], []
        for image in _samples(SIDE * scale):
            latents = _encoded(vae, image[None])
            decoded = _image(vae.decode(latents, return_dict=False)[0]).float()
            flat = _image(latents).float()
            known.append(torch.cat((flat, torch.ones_like(flat[:, :1])), 1))
            wanted.append(F.avg_pool2d(decoded, scale))
        pixels = [torch.cat(one).permute(0, 2, 3, 1).flatten(0, 2).cpu() for one in (known, wanted)]
        return cls(vae, torch.linalg.lstsq(*pixels).solution, scale)

    def decode(self, latents: Tensor, return_dict: bool = True, **_: Any) -> Any:
        """[N, C, h, w], or [N, C, 1, h, w] → [N, 3, H, W], or [N, 3, 1, H, W]."""
        weight = self._weight.to(latents.device)
        colours = torch.einsum("nchw,cd->ndhw", _image(latents).float(), weight[:-1])
        colours += weight[-1][:, None, None]
        image = F.interpolate(colours, scale_factor=self._scale, mode="bilinear").to(latents.dtype)
        image = image[:, :, None] if latents.ndim == 5 else image
        return SimpleNamespace(sample=image) if return_dict else (image,)


def _samples(side: int) -> Tensor:
    """[SAMPLES, 3, side, side], from -1 to 1: half in cells, half smooth."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(SAMPLES, 3, CELLS, CELLS, generator=generator) * 2 - 1
    nearest = F.interpolate(coarse[::2], size=(side, side), mode="nearest")
    smooth = F.interpolate(coarse[1::2], size=(side, side), mode="bicubic").clamp(-1, 1)
    return torch.cat((nearest, smooth))


def _encoded(vae: Any, image: Tensor) -> Tensor:
    """[1, 3, H, W] → the latents' mean, as `LinearDecoder.decode` takes it."""
    parameter = next(vae.parameters())
    image = image.to(parameter.device, parameter.dtype)
    of_videos = hasattr(vae.config, "temperal_downsample")  # so it is spelt
    encoded = vae.encode(image[:, :, None] if of_videos else image)
    latents: Tensor | None = getattr(encoded, "latent", None)
    return encoded.latent_dist.mode() if latents is None else latents


def _image(frames: Tensor) -> Tensor:
    """[N, C, h, w] of that, or of [N, C, 1, h, w]."""
    return frames[:, :, 0] if frames.ndim == 5 else frames
