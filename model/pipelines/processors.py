"""Processors of transformers that ask for torchvision, made to do without.

Two pipelines come with a processor beside their tokenizer: FLUX.2 [dev] and Qwen-Image-Edit. Both
can read images by Pillow alone, but where torchvision is not installed their classes refuse: one
because its module takes a function from the other variant's, one for the sake of videos, which no
image pipeline reads.
"""

from __future__ import annotations

import sys
from typing import Any

import diffusers  # noqa: F401 - imports transformers anew, which would undo this
from transformers.utils.import_utils import is_torchvision_available


def without_torchvision() -> None:
    """Makes them open without it. Does nothing where it is installed. Idempotent."""
    if is_torchvision_available():
        return
    from transformers.models.pixtral import image_processing_pil_pixtral

    sys.modules.setdefault(
        "transformers.models.pixtral.image_processing_pixtral", image_processing_pil_pixtral
    )
    from transformers.models.pixtral.processing_pixtral import PixtralProcessor
    from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

    library: Any = sys.modules["transformers"]  # which diffusers may have imported anew
    library.PixtralProcessor = PixtralProcessor  # in place of the stand-in that only raises
    reads = ["image_processor", "tokenizer"]
    processor: Any = Qwen2VLProcessor
    processor.get_attributes = classmethod(lambda cls: reads)
