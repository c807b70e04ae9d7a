"""A decoder for previews that costs next to nothing: colours as a linear map of latents.

The map is fitted to the pipeline's own VAE at the start: patches of flat colour and slow gradients
are encoded, and the least-squares solution from each latent pixel to the mean colour of the pixels
that it covers is kept. As in the maps that interfaces publish for known models (ComfyUI's latent
formats), detail is lost and colours and shapes stay.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLES, CELLS, SIDE = 8, 4, 16
"""Images that it is fitted to: so many, of so many cells along each side, in latent pixels."""


class LinearDecoder(nn.Module):
    """Takes a VAE's place where latents are decoded: same scaling, same shapes."""

    def __init__(self, vae: Any, weight: Tensor, scale: int) -> None:
        super().__init__()
        self.config = vae.config
        self._weight = weight  # [C + 1, 3], the last row is added
        self._scale = scale

    @property
    def dtype(self) -> torch.dtype:
        return self._weight.dtype

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @classmethod
    @torch.inference_mode()
    def fitted(cls, vae: Any) -> LinearDecoder:
        """Encodes a few images. Raises ``RuntimeError`` where the VAE encodes nothing."""
        probe = torch.zeros(1, 3, 64, 64)
        scale = 64 // _encoded(vae, probe).shape[-1]
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(SAMPLES, 3, CELLS, CELLS, generator=generator) * 2 - 1
        side = SIDE * scale
        nearest = F.interpolate(coarse[::2], size=(side, side), mode="nearest")
        smooth = F.interpolate(coarse[1::2], size=(side, side), mode="bicubic").clamp(-1, 1)
        images = torch.cat((nearest, smooth))
        latents = torch.cat([_encoded(vae, image[None]) for image in images]).float().cpu()
        colours = F.avg_pool2d(images, scale)
        known = torch.cat((latents, torch.ones_like(latents[:, :1])), 1)
        flat = known.permute(0, 2, 3, 1).reshape(-1, known.shape[1])
        wanted = colours.permute(0, 2, 3, 1).reshape(-1, 3)
        weight = torch.linalg.lstsq(flat, wanted).solution
        parameter = next(vae.parameters())
        return cls(vae, weight.to(parameter.device, parameter.dtype), scale)

    def decode(self, latents: Tensor, return_dict: bool = True, **_: Any) -> Any:
        """[N, C, h, w], or [N, C, 1, h, w] → [N, 3, H, W], or [N, 3, 1, H, W]."""
        frames = latents.ndim == 5
        flat = latents[:, :, 0] if frames else latents
        flat = flat.to(self._weight)
        weight, added = self._weight[:-1], self._weight[-1]
        colours = torch.einsum("nchw,cd->ndhw", flat, weight) + added[:, None, None]
        image = F.interpolate(colours, scale_factor=self._scale, mode="bilinear")
        image = image[:, :, None] if frames else image
        return SimpleNamespace(sample=image) if return_dict else (image,)


def _encoded(vae: Any, image: Tensor) -> Tensor:
    """[1, 3, H, W] → the latents' mean, [1, C, h, w]."""
    parameter = next(vae.parameters())
    image = image.to(parameter.device, parameter.dtype)
    five = "3d" in type(vae).__name__.lower() or hasattr(vae.config, "temperal_downsample")
    encoded = vae.encode(image[:, :, None] if five else image)
    latents = getattr(encoded, "latent", None)
    if latents is None:
        latents = encoded.latent_dist.mode()
    return latents[:, :, 0] if latents.ndim == 5 else latents
