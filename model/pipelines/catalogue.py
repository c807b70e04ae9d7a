"""What is known of each pipeline class of diffusers beside its folder. Imports no torch.

An entry is data: names of arguments, defaults, sizes, and what else the pipeline's class can do. A
pipeline without an entry is described by `model.pipelines.inspection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model.request import Operation
from model.spec import Parameter

Configs = Mapping[str, Mapping[str, Any]]
"""The JSON configurations of a folder by component, "" for ``model_index.json``."""


@dataclass(frozen=True, slots=True)
class Text:
    """What limits a prompt: the folder's tokenizer and how many tokens of it are read."""

    tokenizer: str = "tokenizer"  # a component
    limit: int = 512  # tokens, special ones among them
    template: int = 0  # tokens that the pipeline's own wording around the prompt takes


@dataclass(frozen=True, slots=True)
class Area:
    """Sizes in units of what one latent pixel covers, as the pipeline has them."""

    side: int | str  # the native side in latent pixels, or "component.key" of a configuration
    patch: int = 2  # sides are multiples of so many latent pixels
    budget: float = 1.0  # pixels of the largest image, as a multiple of the native one's
    longest: float = 4.0  # the longest side, as a multiple of the native one
    fixed: bool = False  # whether the native size and the others are the only ones
    otherwise: int = 0  # the native side where the configuration does not say one
    others: tuple[tuple[int, int], ...] = ()  # width and height of further sizes, where fixed


@dataclass(frozen=True, slots=True)
class Entry:
    """One family of pipelines."""

    title: str  # for people, e.g. "FLUX.1 [dev]"
    pipeline: str  # ``_class_name`` in model_index.json
    area: Area
    text: Text | None  # None: the prompt names a class of ``id2label``
    parameters: tuple[Parameter, ...]
    arguments: Mapping[str, str]
    """Each parameter's argument of the call, or ``"component.attribute"`` of what is its own."""
    when: Mapping[str, object] = field(default_factory=dict)
    """Only for folders that have these: ``"transformer.guidance_embeds": True``, or
    ``"name": "turbo"`` for a part of the folder's or repository's name, lower case."""
    network: str = "transformer"  # the component whose calls are steps
    batched: str | None = None  # the parameter that doubles the evaluations of a call, …
    above: float = 1  # … above this
    negative_prompt: bool = False
    operations: Mapping[Operation, str] = field(default_factory=dict)
    """Beside "generate": the class of diffusers that does it with the same components. With
    "generate": that does it in place of its own class, which needs an image."""
    images: int = 1  # the most images that its "edit" takes
    options: Mapping[str, Any] = field(default_factory=dict)  # further arguments of every call
    shared: frozenset[str] = frozenset()  # arguments of the network that have no row axis
    axes: Mapping[str, int] = field(default_factory=dict)
    """Arguments of the network whose axis of rows is not the first."""
    lengths: Mapping[str, int] = field(default_factory=dict)
    """Arguments whose rows have lengths of their own, see `model.pipelines.calls.Layout`."""
    exact: bool = True  # False where rows influence each other inside the network


def steps(default: int, maximum: int = 100, minimum: int = 1) -> Parameter:
    """How many denoising steps; a distilled model has ``minimum == maximum``."""
    description = "Denoising steps. More take longer and show more detail, up to a point."
    return Parameter("steps", minimum, maximum, default, 1, description)


def guidance(default: float, maximum: float = 20, minimum: float = 1) -> Parameter:
    """Classifier-free or embedded guidance."""
    description = "How closely the image follows the prompt. Too much of it oversaturates."
    return Parameter("guidance", minimum, maximum, default, 0.1, description)


def true_guidance(default: float, maximum: float = 20) -> Parameter:
    """Classifier-free guidance of a model that also has an embedded one."""
    description = (
        "Classifier-free guidance, away from the negative prompt; above 1 every step takes twice "
        "as long."
    )
    return Parameter("true_guidance", 1, maximum, default, 0.1, description)


def strength(
    default: float = 0.6, operations: tuple[Operation, ...] = ("vary", "inpaint")
) -> Parameter:
    """How much of an upload is noise at the start."""
    description = "How far to go from the image: 0 keeps it, 1 starts from noise alone."
    return Parameter("strength", 0.05, 1, default, 0.05, description, operations)


STEPS, GUIDANCE, TRUE = "num_inference_steps", "guidance_scale", "true_cfg_scale"

_POSITIONS = frozenset({"img_ids", "txt_ids"})  # tables of FLUX and its like

_SD3_OPERATIONS: Mapping[Operation, str] = {
    "vary": "StableDiffusion3Img2ImgPipeline",
    "inpaint": "StableDiffusion3InpaintPipeline",
}
_SDXL_OPERATIONS: Mapping[Operation, str] = {
    "vary": "StableDiffusionXLImg2ImgPipeline",
    "inpaint": "StableDiffusionXLInpaintPipeline",
}
_PIXART_OPTIONS = {
    "use_resolution_binning": False,  # draws the size that is asked for
    "clean_caption": False,  # needs further packages, and is left out without them
}

_MILLION = Area("transformer.sample_size", otherwise=128, budget=1.7)
"""Qwen-Image's, which its card gives sizes of up to 1328x1328 for."""

_Z_IMAGE = Area("transformer.sample_size", otherwise=128, budget=4.0)
_ERNIE = Area("transformer.sample_size", otherwise=128, budget=1.1)

_HIDREAM = Area(
    side=128,
    fixed=True,
    others=tuple(
        size
        for wide, high in ((156, 104), (146, 110), (170, 96))
        for size in ((wide, high), (high, wide))
    ),
)
"""Its pipeline changes every size to about a million pixels; these it leaves as they are."""

CATALOGUE: tuple[Entry, ...] = (
    # The first that fits a folder is its entry: those with more conditions come before.
    # --- FLUX, Stable Diffusion, PixArt, DiT, Chroma, AuraFlow -----------------------------------
    Entry(
        title="FLUX.1 [schnell]",
        pipeline="FluxPipeline",
        when={"name": "schnell"},
        area=Area(side=128, budget=2.0),
        text=Text("tokenizer_2", 256),
        parameters=(steps(4, maximum=4), strength()),
        arguments={"steps": STEPS},
        operations={"vary": "FluxImg2ImgPipeline", "inpaint": "FluxInpaintPipeline"},
        options={"max_sequence_length": 256},
        shared=_POSITIONS,
    ),
    Entry(
        title="FLUX.1 [dev]",
        pipeline="FluxPipeline",
        when={"transformer.guidance_embeds": True},
        area=Area(side=128, budget=2.0),
        text=Text("tokenizer_2", 512),
        parameters=(steps(28), guidance(3.5), true_guidance(1.0), strength()),
        arguments={"steps": STEPS, "guidance": GUIDANCE, "true_guidance": TRUE},
        negative_prompt=True,
        operations={"vary": "FluxImg2ImgPipeline", "inpaint": "FluxInpaintPipeline"},
        shared=_POSITIONS,
    ),
    Entry(
        title="FLUX.1 without embedded guidance",
        pipeline="FluxPipeline",
        area=Area(side=128, budget=2.0),
        text=Text("tokenizer_2", 512),
        parameters=(steps(28), true_guidance(1.0), strength()),
        arguments={"steps": STEPS, "true_guidance": TRUE},
        negative_prompt=True,
        operations={"vary": "FluxImg2ImgPipeline", "inpaint": "FluxInpaintPipeline"},
        shared=_POSITIONS,
    ),
    Entry(
        title="FLUX.1 Kontext",
        pipeline="FluxKontextPipeline",
        area=Area(side=128, budget=1.01),  # 1568x672 is one of those that it was trained on
        text=Text("tokenizer_2", 512),
        parameters=(steps(28), guidance(2.5), true_guidance(1.0), strength(1.0, ("inpaint",))),
        arguments={"steps": STEPS, "guidance": GUIDANCE, "true_guidance": TRUE},
        negative_prompt=True,
        operations={"edit": "FluxKontextPipeline", "inpaint": "FluxKontextInpaintPipeline"},
        options={"_auto_resize": False},  # it would resize the upload to a megapixel
        shared=_POSITIONS,
    ),
    Entry(
        title="FLUX.2 [dev]",
        pipeline="Flux2Pipeline",
        area=Area(side=128, budget=4.0),
        text=Text("tokenizer", 512, template=31),  # the system's message
        parameters=(steps(50), guidance(4.0)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        operations={"edit": "Flux2Pipeline"},
        images=6,
        shared=_POSITIONS,
    ),
    Entry(
        title="FLUX.2 [klein]",
        pipeline="Flux2KleinPipeline",
        when={".is_distilled": True},
        area=Area(side=128, budget=4.0),
        text=Text("tokenizer", 512, template=12),
        parameters=(steps(4, minimum=4, maximum=4), strength(0.8, ("inpaint",))),
        arguments={"steps": STEPS},
        operations={"edit": "Flux2KleinPipeline", "inpaint": "Flux2KleinInpaintPipeline"},
        images=4,
        options={"guidance_scale": 1.0},
        shared=_POSITIONS,
    ),
    Entry(
        title="FLUX.2 [klein] base",
        pipeline="Flux2KleinPipeline",
        area=Area(side=128, budget=4.0),
        text=Text("tokenizer", 512, template=12),
        parameters=(steps(50), guidance(4.0), strength(0.8, ("inpaint",))),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        operations={"edit": "Flux2KleinPipeline", "inpaint": "Flux2KleinInpaintPipeline"},
        images=4,
        shared=_POSITIONS,
    ),
    Entry(
        title="Stable Diffusion 3.5 turbo",
        pipeline="StableDiffusion3Pipeline",
        when={"name": "turbo"},
        area=Area(side="transformer.sample_size", longest=2.0),
        text=Text("tokenizer_3", 256),
        parameters=(steps(4, maximum=8), strength()),
        arguments={"steps": STEPS},
        operations=_SD3_OPERATIONS,
        options={"guidance_scale": 0.0},
    ),
    Entry(
        title="Stable Diffusion 3.5 medium",
        pipeline="StableDiffusion3Pipeline",
        when={"name": "3.5-medium"},
        area=Area(side="transformer.sample_size", budget=2.0, longest=2.0),
        text=Text("tokenizer_3", 256),
        parameters=(steps(40), guidance(4.5), strength()),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        operations=_SD3_OPERATIONS,
    ),
    Entry(
        title="Stable Diffusion 3.5",
        pipeline="StableDiffusion3Pipeline",
        when={"name": "3.5"},
        area=Area(side="transformer.sample_size", longest=2.0),
        text=Text("tokenizer_3", 256),
        parameters=(steps(28), guidance(3.5), strength()),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        operations=_SD3_OPERATIONS,
    ),
    Entry(
        title="Stable Diffusion 3",
        pipeline="StableDiffusion3Pipeline",
        area=Area(side="transformer.sample_size", longest=2.0),
        text=Text("tokenizer_3", 256),
        parameters=(steps(28), guidance(7.0), strength()),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        operations=_SD3_OPERATIONS,
    ),
    Entry(
        title="Stable Diffusion XL Turbo",
        pipeline="StableDiffusionXLPipeline",
        when={"name": "turbo"},
        network="unet",
        area=Area(side="unet.sample_size", patch=8, longest=2.0),
        text=Text("tokenizer", 77),
        parameters=(steps(4, maximum=4), strength()),
        arguments={"steps": STEPS},
        operations=_SDXL_OPERATIONS,
        options={"guidance_scale": 0.0},
    ),
    Entry(
        title="Stable Diffusion XL",
        pipeline="StableDiffusionXLPipeline",
        network="unet",
        area=Area(side="unet.sample_size", patch=8, longest=2.0),
        text=Text("tokenizer", 77),
        parameters=(steps(50), guidance(5.0), strength()),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        operations=_SDXL_OPERATIONS,
    ),
    Entry(
        title="PixArt-α",
        pipeline="PixArtAlphaPipeline",
        area=Area(side="transformer.sample_size"),
        text=Text("tokenizer", 120),
        parameters=(steps(20, minimum=2), guidance(4.5)),  # with 1 it expects another scheduler
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        options=_PIXART_OPTIONS,
    ),
    Entry(
        title="PixArt-Σ",
        pipeline="PixArtSigmaPipeline",
        area=Area(side="transformer.sample_size"),
        text=Text("tokenizer", 300),
        parameters=(steps(20), guidance(4.5)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        options=_PIXART_OPTIONS,
    ),
    Entry(
        title="DiT",
        pipeline="DiTPipeline",
        area=Area(side="transformer.sample_size", fixed=True),
        text=None,
        parameters=(steps(50, maximum=250), guidance(4.0)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
    ),
    Entry(
        title="Chroma",
        pipeline="ChromaPipeline",
        area=Area(side=128, budget=2.0),
        text=Text("tokenizer", 512),
        parameters=(steps(35), guidance(5.0), strength(0.9)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        negative_prompt=True,
        operations={"vary": "ChromaImg2ImgPipeline"},
        options={"max_sequence_length": 512},  # of which some of its classes read half
        shared=_POSITIONS,
    ),
    Entry(
        title="AuraFlow",
        pipeline="AuraFlowPipeline",
        area=Area(side=128, longest=1.0),  # it has learned no positions beyond
        text=Text("tokenizer", 256),
        parameters=(steps(50), guidance(3.5)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
    ),
    # --- Qwen, Z-Image, Sana, Lumina, HunyuanImage, CogView, ERNIE, HiDream -----------------------
    Entry(
        title="Qwen-Image",
        pipeline="QwenImagePipeline",
        area=_MILLION,
        text=Text(limit=1024, template=5),
        parameters=(steps(50, minimum=2), guidance(4.0), strength()),
        arguments={"steps": STEPS, "guidance": TRUE},
        negative_prompt=True,
        operations={"vary": "QwenImageImg2ImgPipeline", "inpaint": "QwenImageInpaintPipeline"},
        options={"max_sequence_length": 1024},
    ),
    Entry(
        title="Qwen-Image-Edit",
        pipeline="QwenImageEditPipeline",
        area=_MILLION,
        text=Text(limit=1024, template=5),
        parameters=(steps(50, minimum=2), guidance(4.0)),
        arguments={"steps": STEPS, "guidance": TRUE},
        negative_prompt=True,
        operations={"generate": "QwenImagePipeline", "edit": "QwenImageEditPipeline"},
        options={"max_sequence_length": 1024},
    ),
    Entry(
        title="Qwen-Image-Edit-Plus",
        pipeline="QwenImageEditPlusPipeline",
        area=_MILLION,
        text=Text(limit=1024, template=5),
        parameters=(steps(40, minimum=2), guidance(4.0)),
        arguments={"steps": STEPS, "guidance": TRUE},
        negative_prompt=True,
        operations={"generate": "QwenImagePipeline", "edit": "QwenImageEditPlusPipeline"},
        images=3,
        options={"max_sequence_length": 1024},
    ),
    Entry(
        title="Z-Image-Turbo",
        pipeline="ZImagePipeline",
        when={"name": "turbo"},
        area=_Z_IMAGE,
        text=Text(limit=512, template=8),
        parameters=(steps(8, maximum=16), strength()),
        arguments={"steps": STEPS},
        operations={"vary": "ZImageImg2ImgPipeline", "inpaint": "ZImageInpaintPipeline"},
        options={GUIDANCE: 0.0},
        lengths={"cap_feats": 32},
    ),
    Entry(
        title="Z-Image",
        pipeline="ZImagePipeline",
        area=_Z_IMAGE,
        text=Text(limit=512, template=8),
        parameters=(steps(50), guidance(4.0, minimum=0), strength()),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        above=0,
        negative_prompt=True,
        operations={"vary": "ZImageImg2ImgPipeline", "inpaint": "ZImageInpaintPipeline"},
        lengths={"cap_feats": 32},
    ),
    Entry(
        title="Sana",
        pipeline="SanaPipeline",
        area=Area("transformer.sample_size", patch=1),
        text=Text(limit=300, template=1),
        parameters=(steps(20), guidance(4.5)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        options={"use_resolution_binning": False},
    ),
    Entry(
        title="Sana-Sprint",
        pipeline="SanaSprintPipeline",
        area=Area("transformer.sample_size", patch=1),
        text=Text(limit=300, template=1),
        parameters=(steps(2, 2, 2), guidance(4.5), strength(0.5)),  # above 0.5 it is noise alone
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        operations={"vary": "SanaSprintImg2ImgPipeline"},
        options={"use_resolution_binning": False},
    ),
    Entry(
        title="Lumina-Image 2.0",
        pipeline="Lumina2Pipeline",
        area=Area("transformer.sample_size"),
        text=Text(limit=256, template=31),
        parameters=(steps(30), guidance(4.0)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        negative_prompt=True,
        lengths={"encoder_attention_mask": 1},
    ),
    Entry(
        title="HunyuanImage 2.1 distilled",
        pipeline="HunyuanImagePipeline",
        when={"transformer.guidance_embeds": True},
        area=Area("transformer.sample_size", otherwise=64),
        text=Text(limit=1034, template=35),
        parameters=(steps(8, maximum=50), guidance(3.25)),
        arguments={"steps": STEPS, "guidance": "distilled_guidance_scale"},
    ),
    Entry(
        title="HunyuanImage 2.1",
        pipeline="HunyuanImagePipeline",
        area=Area("transformer.sample_size", otherwise=64),
        text=Text(limit=1034, template=35),
        parameters=(steps(50), guidance(3.5)),
        arguments={"steps": STEPS, "guidance": "guider.guidance_scale"},
        negative_prompt=True,
    ),
    Entry(
        title="CogView4",
        pipeline="CogView4Pipeline",
        area=Area("transformer.sample_size", budget=2.0),
        text=Text(limit=1024),
        parameters=(steps(50), guidance(5.0)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        negative_prompt=True,
    ),
    Entry(
        title="ERNIE-Image-Turbo",
        pipeline="ErnieImagePipeline",
        when={"name": "turbo"},
        area=_ERNIE,
        text=Text(limit=2048),
        parameters=(steps(8, maximum=16),),
        arguments={"steps": STEPS},
        options={GUIDANCE: 1.0, "use_pe": False},
    ),
    Entry(
        title="ERNIE-Image",
        pipeline="ErnieImagePipeline",
        area=_ERNIE,
        text=Text(limit=2048),
        parameters=(steps(50), guidance(4.0)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        options={"use_pe": False},  # it draws words from the process's random numbers
    ),
    *(
        Entry(
            title=f"HiDream-I1-{name}",
            pipeline="HiDreamImagePipeline",
            when={"name": f"i1-{name.lower()}"},
            area=_HIDREAM,
            text=Text("tokenizer_3", 128),
            parameters=(steps(default, maximum=50),),
            arguments={"steps": STEPS},
            options={GUIDANCE: 1.0},
            axes={"encoder_hidden_states_llama3": 1},
            exact=False,
        )
        for name, default in (("Dev", 28), ("Fast", 16))
    ),
    Entry(
        title="HiDream-I1",
        pipeline="HiDreamImagePipeline",
        area=_HIDREAM,
        text=Text("tokenizer_3", 128),
        parameters=(steps(50), guidance(5.0)),
        arguments={"steps": STEPS, "guidance": GUIDANCE},
        batched="guidance",
        negative_prompt=True,
        axes={"encoder_hidden_states_llama3": 1},
        exact=False,
    ),
)


def find(configs: Configs, name: str) -> Entry | None:
    """The entry of a folder (or repository) of this name; None where there is none."""
    for entry in CATALOGUE:
        if entry.pipeline == configs[""].get("_class_name") and all(
            str(value) in name.lower() if key == "name" else _lookup(configs, key) == value
            for key, value in entry.when.items()
        ):
            return entry
    return None


def _lookup(configs: Configs, key: str) -> object:
    component, _, name = key.partition(".")
    return configs.get(component, {}).get(name)
