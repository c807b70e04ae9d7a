"""Previews of pipelines: what a step predicts, shown by one decoder or another, and no more.

If these fail, previews show something else than what becomes of the image, cost its row a pass of
its network, or change pixels.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.checkpoint import CheckpointError
from model.loading import load_model
from model.pipelines import linear_decoder
from model.pipelines.checkpoint import PipelineCheckpoint
from model.pipelines.linear_decoder import LinearDecoder
from model.pipelines.previews import Estimate
from model.pipelines.sampler import PipelineModel, log
from model.request import ImageRequest, Operation, Picture, Source
from tests.pipelines.conftest import MAKERS
from tests.pipelines.parts import library, randomise
from tests.pipelines.questions import drawn_by_the_library, pipeline, questions
from tests.pipelines.test_rows import ask, finish, load, pixels, previews
from tests.service.running import running

pytestmark = pytest.mark.timeout(300)

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
V = {**NOISE, "prediction_type": "v_prediction"}

SCHEDULERS: list[tuple[str, dict[str, Any]]] = [
    ("DDIMScheduler", {**NOISE, "clip_sample": False}),
    ("DDPMScheduler", {**V, "clip_sample": False}),
    ("DEISMultistepScheduler", NOISE),
    ("DEISMultistepScheduler", FLOW),
    ("DPMSolverMultistepScheduler", {**V, "algorithm_type": "sde-dpmsolver++"}),
    (
        "DPMSolverMultistepScheduler",
        {**NOISE, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
    ),
    ("DPMSolverSinglestepScheduler", V),
    ("EulerDiscreteScheduler", V),
    ("FlowMatchHeunDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", V),
    ("LCMScheduler", NOISE),
    ("LMSDiscreteScheduler", NOISE),
    ("PNDMScheduler", {**V, "skip_prk_steps": True}),
    ("SASolverScheduler", NOISE),
    ("TCDScheduler", NOISE),
    ("UniPCMultistepScheduler", {**NOISE, "predict_x0": False}),
]
"""Beside those of the tiny pipelines: what people put into Stable Diffusion XL's folders."""


def few_steps(model: PipelineModel, **given: Any) -> ImageRequest:
    allowed = model.spec.parameter("steps")
    assert allowed is not None
    count = max(allowed.minimum, min(3, allowed.maximum))
    prompt = (*model.spec.examples, "a red apple")[0]
    return ask(model, 1, prompt, **{"steps": count} | given)


@pytest.mark.parametrize("name", MAKERS)
def test_the_last_step_predicts_the_image(
    name: str, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every family, and with colours alone in place of its VAE the same image is drawn."""
    model = load(folders[name])
    request = few_steps(model)
    [alone] = finish(model, [model.start(request)])
    row = model.start(request)
    seen = [np.abs(one - pixels(alone)).mean() for one in previews(model, row)]
    assert len(seen) == row.step == request.value("steps", 0)
    assert seen[-1] < 0.5
    assert model.result(row) == alone
    model.release(row)
    decoder = LinearDecoder.fitted(model._pipelines["generate"].vae)
    monkeypatch.setattr(model, "_preview_decoder", decoder)
    monkeypatch.setattr(log, "error", pytest.fail)
    row = model.start(request)
    seen = [one.std() for one in previews(model, row)]
    assert min(seen) > 1, "a flat image shows nothing"
    assert model.result(row) == alone
    model.release(row)


@pytest.fixture(autouse=True)
def little_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_decoder, "SAMPLES", 4)
    monkeypatch.setattr(linear_decoder, "SIDE", 8)


@pytest.mark.parametrize("name", MAKERS)
def test_they_are_shown_in_fewer_bits_too(
    name: str, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some schedulers predict in fp32 what they step in bf16."""
    monkeypatch.setattr(log, "error", pytest.fail)
    checkpoint = PipelineCheckpoint.open(folders[name])
    model = load_model(checkpoint, device="cpu", dtype="bf16", tile=4)
    assert isinstance(model, PipelineModel)
    row = model.start(few_steps(model))
    seen = list(previews(model, row))
    final = model.result(row)
    assert isinstance(final, Picture)
    assert np.abs(seen[-1] - pixels(final)).mean() < 2
    model.release(row)


def of_folder(folder: Path) -> Any:
    index = json.loads((folder / "model_index.json").read_text())
    return getattr(library, index["scheduler"][1]).from_pretrained(folder / "scheduler")


def levels(scheduler: Any, timestep: Tensor) -> tuple[float, float]:
    """Of the sample that a step begins with: as much of the clean latents, as much noise."""
    name, index = type(scheduler).__name__, getattr(scheduler, "step_index", None) or 0
    if name == "SCMScheduler":
        return float(torch.cos(timestep)), float(torch.sin(timestep))
    if not hasattr(scheduler, "sigmas"):
        alpha = float(scheduler.alphas_cumprod[int(timestep)])
        return alpha**0.5, (1 - alpha) ** 0.5
    sigma = float(scheduler.sigmas[index])
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        alpha, sigma = map(float, scheduler._sigma_to_alpha_sigma_t(torch.tensor(sigma)))
        return alpha, sigma
    return (1.0 if hasattr(scheduler, "alphas_cumprod") else 1 - sigma), sigma


def answer(scheduler: Any, timestep: Tensor, sample: Tensor, clean: Tensor) -> Tensor:
    """Of a network that knows the clean latents."""
    alpha, sigma = levels(scheduler, timestep)
    noise = (sample - alpha * clean) / sigma
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    if kind == "trigflow":
        return alpha * noise - sigma * clean
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        if alpha == 1:  # the sample is larger than the network sees it
            alpha, sigma = (part / (1 + sigma**2) ** 0.5 for part in (alpha, sigma))
        return alpha * noise - sigma * clean
    return noise - clean


def check_estimates(scheduler: Any) -> None:
    """A network that knows the clean latents: every step predicts them."""
    dynamic = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting") else {}
    count = 2 if "SCM" in type(scheduler).__name__ else 5
    scheduler.set_timesteps(count, **dynamic)
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    sample = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    drawing = {"generator": generator}
    if "generator" not in inspect.signature(scheduler.step).parameters:
        drawing = {}
    scheduler.is_scale_input_called = True
    for timestep in scheduler.timesteps[: -1 if count == 2 else None]:
        output = answer(scheduler, timestep, sample, clean)
        result = scheduler.step(output, timestep, sample, return_dict=False, **drawing)
        estimate = Estimate(scheduler, output, timestep, sample, result)
        assert (estimate.latents - clean).abs().max() < 1e-3
        sample = result[0]


@pytest.mark.parametrize("name", MAKERS)
def test_estimates_are_exact_where_the_network_is(name: str, folders: Mapping[str, Path]) -> None:
    check_estimates(of_folder(folders[name]))


@pytest.mark.filterwarnings("ignore:.*algorithm_type:FutureWarning")
@pytest.mark.parametrize(("name", "config"), SCHEDULERS)
def test_estimates_of_other_schedulers(name: str, config: dict[str, Any]) -> None:
    check_estimates(getattr(library, name)(**config))


def test_a_preview_is_no_part_of_another_s_pass(folders: Mapping[str, Path]) -> None:
    model = load(folders["sd3"])
    requests = [few_steps(model, steps=count, guidance=1.0) for count in (4, 12)]
    alone = [finish(model, [model.start(request)])[0] for request in requests]
    shown, other = (model.start(request) for request in requests)
    for row in (shown, other):
        model.step([row])  # texts
    while not shown.done:
        model.step([shown, other])
        if not shown.done:
            model.preview(shown)
            before = shown.step, other.step
            assert shown.kind == "decode" != other.kind
            model.step([shown, other])
            assert (shown.step, other.step) == (before[0], before[1] + 1)
    assert [model.result(shown), *finish(model, [other])] == alone
    model.release(shown)


def test_one_that_fails_is_grey_and_nothing_else(
    folders: Mapping[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    model = load(folders["sd3"])
    request = few_steps(model)
    [alone] = finish(model, [model.start(request)])
    row = model.start(request)
    while not row.step:
        model.step([row])
    row.read.clear()
    model.preview(row)
    model.step([row])
    assert row.picture is not None
    assert {*row.picture.pixels} == {128}
    assert "a preview failed" in caplog.text
    assert finish(model, [row]) == [alone]


def photograph(size: tuple[int, int]) -> Picture:
    generator = torch.Generator().manual_seed(5)
    small = torch.rand(1, 3, 4, 4, generator=generator)
    large = F.interpolate(small, size=size[::-1], mode="bicubic").clamp(0, 1)[0]
    return Picture(*size, 3, (255 * large).byte().permute(1, 2, 0).numpy().tobytes())


OPERATIONS: list[tuple[str, Operation]] = [
    ("sd3", "vary"),
    ("sd3", "inpaint"),
    ("sdxl", "vary"),
    ("sdxl", "inpaint"),
    ("flux-dev", "vary"),
    ("flux-kontext", "edit"),
    ("flux2-klein", "edit"),
    ("qwen-edit", "edit"),
    ("z-image", "inpaint"),
]


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
@pytest.mark.parametrize("decoder", ["vae", "linear", "tiny"])
def test_uploads_are_not_read_again(
    decoder: str,
    name: str,
    operation: Operation,
    folders: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever decodes, the VAE's encoder answers as it did for the image itself."""
    if decoder == "tiny":
        if "2" in name or "qwen" in name:
            pytest.skip("has no AutoencoderKL")
        decoder = str(tiny(tmp_path / "tiny", folders[name]))
    monkeypatch.setattr(log, "error", pytest.fail)
    model = load(folders[name], preview_decoder=decoder)
    size = model.spec.sizes.smallest
    mask = bytes([255] * (size[0] * size[1] // 2) + [0] * (size[0] * size[1] // 2))
    source = Source(photograph(size), mask if operation == "inpaint" else None)
    request = few_steps(model, operation=operation, source=source, size=size)
    [alone] = finish(model, [model.start(request)])
    row = model.start(request)
    seen = list(previews(model, row))
    assert model.result(row) == alone
    model.release(row)
    assert seen
    if decoder == "vae":
        assert np.abs(seen[-1] - pixels(alone)).mean() < 0.5


class Linear(torch.nn.Module):
    """An autoencoder that is linear itself, in frames or without."""

    def __init__(self, frames: bool) -> None:
        super().__init__()
        self.config = SimpleNamespace(**{"temperal_downsample": []} if frames else {})
        generator = torch.Generator().manual_seed(3)
        self.mix = torch.nn.Parameter(torch.randn(6, 3, generator=generator))
        self.scale = 4

    def encode(self, images: Tensor) -> Any:
        frames = images.ndim == 5
        assert frames == hasattr(self.config, "temperal_downsample")
        small = F.avg_pool2d(images[:, :, 0] if frames else images, self.scale)
        latents = torch.einsum("nchw,dc->ndhw", small, self.mix) + 0.25
        return SimpleNamespace(latent=latents[:, :, None] if frames else latents)

    def decode(self, latents: Tensor, return_dict: bool = True) -> Any:
        frames = latents.ndim == 5
        flat = (latents[:, :, 0] if frames else latents) - 0.25
        small = torch.einsum("ndhw,cd->nchw", flat, torch.linalg.pinv(self.mix))
        large = F.interpolate(small, scale_factor=self.scale, mode="nearest")
        return (large[:, :, None] if frames else large,)


@pytest.mark.parametrize("frames", [False, True])
def test_colours_are_found_where_they_are_linear(frames: bool) -> None:
    vae = Linear(frames)
    decoder = LinearDecoder.fitted(vae)
    flat = torch.tensor([0.5, -0.2, 0.1])[:, None, None].expand(1, 3, 32, 32)
    image = flat[:, :, None] if frames else flat
    latents = vae.encode(image).latent.detach()
    (decoded,) = decoder.decode(latents, return_dict=False)
    assert decoded.shape == image.shape
    assert (decoded - image).abs().max() < 1e-4
    assert decoder.decode(latents).sample.equal(decoded)
    assert decoder.config is vae.config
    assert decoder.encode(image).latent.equal(latents)


def tiny(folder: Path, pipeline: Path, **given: Any) -> Path:
    """An ``AutoencoderTiny`` for the latents of a tiny pipeline: two pixels a side."""
    config = json.loads((pipeline / "vae" / "config.json").read_text())
    options = {
        "latent_channels": config["latent_channels"],
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
        **given,
    }
    randomise(library.AutoencoderTiny(**options), 8).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["sd3", "sdxl", "flux-dev", "z-image", "dit", "pixart-sigma"])
def test_a_tiny_autoencoder_decodes(
    name: str, folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the library's own pipeline does with it in place of its VAE."""
    folder = tiny(tmp_path / "tiny", folders[name])
    model = load(folders[name], preview_decoder=str(folder))
    [question] = questions(folders[name], 1)
    given: dict[str, Any] = {**question.parameters}
    row = model.start(
        model.spec.request(question.prompt, question.seed, size=question.size, **given)
    )
    *_, last = previews(model, row)
    model.release(row)
    decoder = library.AutoencoderTiny.from_pretrained(folder)
    monkeypatch.setattr(pipeline(folders[name]), "vae", decoder)
    expected = drawn_by_the_library(folders[name], question)
    assert expected.std() > 1
    assert np.abs(last - expected).mean() < 0.5


def test_one_that_is_for_other_latents_is_refused(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    def refused(folder: Path | str, name: str = "sd3") -> str:
        with pytest.raises(CheckpointError) as error:
            load(folders[name], preview_decoder=str(folder))
        said = str(error.value)
        assert said.startswith(f"{folder}: no previews of {name} by it: ")
        assert "\n" not in said
        return said

    four = tiny(tmp_path / "four", folders["sdxl"])
    assert "latents of 4 channels and 2 pixels a side, these have 16 and 2" in refused(four)
    three = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    blocks = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
    larger = tiny(tmp_path / "larger", folders["sd3"], **three, **blocks)
    assert "latents of 16 channels and 4 pixels a side" in refused(larger)
    assert "this is a AutoencoderKLQwenImage" in refused(four, "qwen-image")
    refused(tmp_path / "nowhere")
    refused(folders["sd3"] / "scheduler")
    next(four.glob("*.safetensors")).rename(four / "diffusion_pytorch_model.bin")
    refused(four)


async def test_the_api_says_what_decodes(
    folders: Mapping[str, Path], tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    """And streams what it made."""
    decoder = tiny(tmp_path / "taesd3", folders["sd3"])
    models = f"{folders['sd3']},{tiny_models['flow']}"
    with running(
        folders["sd3"], tmp_path / "log", MODELS=models, PREVIEW_DECODER=str(decoder)
    ) as service:
        service.await_ready(patience=300)
        assert "previews of sd3 by taesd3" in service.log
        async with service.client() as http:
            listed = (await http.get("/v1/models")).json()["data"]
            body = {"model": "sd3", "prompt": "a red apple", "seed": 1, "steps": 20}
            said = {one["id"]: one["preview_decoder"] for one in listed}
            assert said == {"sd3": "taesd3", "tiny": None}
            streamed = await http.post(
                "/v1/images",
                json=body | {"previews": True},
                headers={"Accept": "text/event-stream"},
            )
        assert streamed.status_code == 200, streamed.text
        assert "event: preview" in streamed.text
        assert "event: image" in streamed.text
