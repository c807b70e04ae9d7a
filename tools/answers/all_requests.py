"""All requests that are recorded."""

from __future__ import annotations

from collections.abc import Mapping

from tools.answers.request import (
    EVENTS,
    JSON,
    Request,
    address,
    draw,
    form,
    generations,
    previewed,
    transform,
)
from tools.answers.uploads import uploads

FLOW, GPT, GAN = "emoji-flow", "emoji-gpt", "emoji-gan"


APPLE, CAT = "red apple, fluent 3d style", "猫，noto 风格"


def drawings() -> list[Request]:
    """``POST /v1/images``, of every model."""
    last = 2**53 - 2  # the third image from here has seed 0
    return [
        draw("flow-defaults", seed=11),
        draw("flow-prompt", prompt=APPLE, seed=7, steps=8),
        draw("flow-chinese", prompt=CAT, seed=12, steps=8),
        draw(
            "flow-string-seed-webp-transparent",
            prompt="robot",
            seed="ada",
            size=128,
            format="webp",
            background="transparent",
            steps=6,
        ),
        draw(
            "flow-jpeg-colour-quality",
            prompt="fox, noto style",
            seed=13,
            format="jpeg",
            background="#ff8800",
            quality=35,
            guidance=7.5,
            steps=6,
        ),
        draw("flow-short-colour-small", seed=14, background="#08f", size=24, steps=4),
        draw(
            "flow-unguided-accept-webp",
            accept="image/webp",
            prompt="rocket, noto style",
            seed=15,
            guidance=1,
            quality=100,
            steps=5,
        ),
        draw("flow-json-last-seeds", accept=JSON, prompt=APPLE, seed=last, n=3, steps=4),
        draw("gpt-prompt", model=GPT, prompt=APPLE, seed=21),
        draw("gpt-no-prompt-webp", model=GPT, seed="grace", format="webp", size=96, quality=60),
        draw(
            "gpt-likeliest-transparent",
            model=GPT,
            prompt="penguin, noto style",
            seed=22,
            temperature=0,
            background="transparent",
        ),
        draw(
            "gpt-free-chinese",
            model=GPT,
            prompt=CAT,
            seed=23,
            temperature=1.2,
            top_k=40,
            top_p=0.8,
            guidance=4,
        ),
        draw("gpt-json-jpeg", model=GPT, prompt="sunflower", seed=24, n=2, format="jpeg"),
        draw("gan-prompt-transparent", model=GAN, prompt=APPLE, seed=31, background="transparent"),
        draw("gan-no-prompt-webp", model=GAN, seed="Zoë", format="webp", background="1a2b3c"),
        draw("gan-chinese-jpeg-large", model=GAN, prompt=CAT, seed=32, format="jpeg", size=200),
        draw("gan-json", model=GAN, prompt="guitar, fluent 3d style", seed=33, n=4),
        draw("walk-flow-webp", prompt=APPLE, seed=41, walk=4, steps=4),
        draw(
            "walk-gan-png-transparent",
            model=GAN,
            prompt="cactus, noto style",
            seed=42,
            walk=8,
            format="png",
            background="transparent",
        ),
        draw("walk-gan-json", accept=JSON, model=GAN, seed=54, walk=12, format="webp", size=80),
    ]


def addresses(digests: Mapping[str, str]) -> list[Request]:
    """``GET /v1/images/{seed}.{format}``. ``digests`` are the models', by id."""
    return [
        address("address-png", 7, "png", prompt="hot beverage, fluent 3d style", steps=6),
        address(
            "address-string-seed-transparent",
            "ada",
            "webp",
            prompt="robot, noto style",
            size=128,
            background="transparent",
            steps=4,
        ),
        address("address-chinese-seed", "小猫", "png", prompt=CAT, guidance=3.5, steps=5),
        address("address-jpeg", 51, "jpeg", background="#336699", quality=70, steps=4),
        address(
            "address-gpt-sampling",
            52,
            "png",
            model=GPT,
            prompt="guitar",
            temperature=0.9,
            top_k=100,
            top_p=0.9,
        ),
        address("address-gan-pinned", 53, "png", model=f"{GAN}@{digests[GAN]}", prompt="sunflower"),
        address("address-walk-gan", 54, "webp", model=GAN, walk=10),
        address(
            "address-walk-flow-pinned",
            55,
            "png",
            model=f"{FLOW}@{digests[FLOW][:12]}",
            prompt="fox",
            walk=3,
            steps=3,
            size=48,
        ),
    ]


def transforms() -> list[Request]:
    """``POST /v1/images/transform``, every operation."""
    files = uploads()
    return [
        transform("vary-wide", "vary", files.wide, seed=61, steps=8),
        transform(
            "vary-exact-jpeg", "vary", files.exact, strength=0.3, format="jpeg", seed=62, steps=8
        ),
        transform("restyle", "restyle", files.tall, prompt="red apple, noto style", seed=63),
        transform(
            "restyle-json",
            "restyle",
            files.wide,
            accept=JSON,
            prompt=APPLE,
            strength=0.5,
            n=2,
            size=100,
            seed=64,
            steps=6,
        ),
        transform(
            "inpaint-white-mask",
            "inpaint",
            files.square,
            mask=files.square_mask,
            prompt="red apple",
            seed=65,
            steps=6,
        ),
        transform(
            "inpaint-transparent-mask-webp",
            "inpaint",
            files.wide,
            mask=files.wide_mask,
            prompt=APPLE,
            strength=0.6,
            format="webp",
            seed=66,
            steps=8,
        ),
        transform("inpaint-transparent-image", "inpaint", files.holed, seed="hole", steps=6),
        transform(
            "inpaint-gpt",
            "inpaint",
            files.square,
            mask=files.square_mask,
            model=GPT,
            prompt="red apple, noto style",
            temperature=0.7,
            seed=67,
        ),
        transform("outpaint", "outpaint", files.exact, prompt=APPLE, seed=68, steps=6),
        transform(
            "outpaint-margins",
            "outpaint",
            files.tall,
            left=40,
            top=10,
            background="#fed",
            size=180,
            seed=69,
            steps=6,
        ),
        transform("upscale-2", "upscale", files.small, factor=2, prompt=APPLE, seed=70, steps=8),
        transform("upscale-4", "upscale", files.tiny, factor=4, seed=71, steps=6),
        transform("colorize", "colorize", files.square, prompt="red apple", seed=72, steps=8),
        transform("denoise-told", "denoise", files.noisy, noise=0.1, steps=4, seed=73),
        transform("denoise-estimated", "denoise", files.noisy, seed=74, background="transparent"),
    ]


def descriptions() -> list[Request]:
    """``POST /v1/images/describe``."""
    path, files = "/v1/images/describe", uploads()
    labels = "red apple, noto style\ncat\n猫\nstrawberry, fluent 3d style"
    return [
        form("describe", path, ("image", files.flat)),
        form("describe-labels", path, ("image", files.wide), labels=labels, model=GPT),
    ]


def of_openai() -> list[Request]:
    """OpenAI's routes, but for streams and addresses."""
    files, edits = uploads(), "/v1/images/edits"
    return [
        generations("openai-low", prompt=APPLE, n=2, quality="low", seed=81),
        generations(
            "openai-high-transparent-webp",
            prompt="rocket, noto style",
            quality="high",
            background="transparent",
            size="96x96",
            output_format="webp",
            output_compression=50,
            response_format="b64_json",
            seed=82,
        ),
        form(
            "openai-edit-mask",
            edits,
            ("image", files.square),
            ("mask", files.square_clear_mask),
            prompt="green apple",
            quality="low",
            seed=83,
        ),
        form(
            "openai-edit-faithful",
            edits,
            ("image", files.wide),
            prompt="red apple, noto style",
            input_fidelity="high",
            background="opaque",
            output_format="jpeg",
            steps=6,
            seed=84,
        ),
        form(
            "openai-edit-several",
            edits,
            *(("image[]", one) for one in (files.exact, files.tall, files.wide)),
            prompt="red apple, noto style",
            size="128x128",
            steps=6,
            seed=85,
        ),
        form(
            "openai-edit-several-mask",
            edits,
            ("image", files.wide),
            ("image", files.square),
            ("mask", files.wide_mask),
            prompt="red apple",
            n=2,
            steps=5,
            seed=86,
        ),
        form(
            "openai-variation",
            "/v1/images/variations",
            ("image", files.tall),
            quality="low",
            background="transparent",
            seed="another",
        ),
    ]


def streams() -> list[Request]:
    """Events of both kinds. No other request may want these images, see the module."""
    files = uploads()
    return [
        previewed(
            draw("stream-flow", accept=EVENTS, prompt=APPLE, seed=91, n=2, steps=6, previews=True)
        ),
        previewed(
            draw(
                "stream-gpt",
                accept=EVENTS,
                model=GPT,
                prompt="penguin, fluent 3d style",
                seed=92,
                format="webp",
                previews=True,
            )
        ),
        previewed(
            transform(
                "stream-outpaint",
                "outpaint",
                files.wide,
                accept=EVENTS,
                prompt=APPLE,
                seed=93,
                steps=5,
                previews="true",
            )
        ),
        previewed(
            generations(
                "openai-stream",
                prompt="cactus, noto style",
                stream=True,
                partial_images=2,
                quality="high",
                seed=94,
            )
        ),
        previewed(
            form(
                "openai-edit-stream",
                "/v1/images/edits",
                ("image", files.square),
                ("mask", files.square_clear_mask),
                prompt="red apple",
                stream="true",
                partial_images=2,
                steps=6,
                seed=95,
            )
        ),
    ]
