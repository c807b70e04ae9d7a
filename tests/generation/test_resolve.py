"""If these fail, what is asked for means something else than it says, or is refused in other words.

Here for all that ask: the API, OpenAI's routes, the command line, the benchmarks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from PIL import Image

from app.generation.editing.fit import Size
from app.generation.editing.operations import EDITS, EditName, EditRequest, offered
from app.generation.output import TRANSPARENT, Format
from app.generation.resolve import (
    Generation,
    Limits,
    Wanted,
    find_describer,
    find_model,
    parse_background,
    parse_size,
    resolve,
    resolve_description,
    seed_of,
)
from model.checkpoint import Checkpoint, Placement
from model.protocol import ImageModel
from model.registry import open_checkpoint
from model.request import SEEDS, InvalidField
from model.sizes import Sizes
from model.spec import DRAWING, ModelSpec, Parameter
from tests.generation import corpus
from tests.generation.corpus import box_mask, written

LIMITS = Limits()
SIDE = 16  # of the tiny models

FREE = Sizes(64, 64, multiple=16, low=32, high=128, pixels=8192)
LARGE = Sizes(1328, 1328, multiple=32, low=512, high=2048, pixels=2048 * 1024)

STEPS = Parameter("steps", 1, 50, default=8, step=1, description="Steps.", operations=DRAWING)


class Paper(Checkpoint):
    """A checkpoint of which there is no more than what can be known of it."""

    def __init__(self, **changes: Any) -> None:
        self.spec = replace(
            ModelSpec(
                id="paper",
                family="paper",
                sizes=Sizes(64, 64),
                channels=3,
                parameters=(STEPS,),
                operations=("generate", "vary"),
                max_prompt_tokens=8,
                digest="0" * 64,
                license="none",
                description="",
            ),
            **changes,
        )
        self.checked: list[tuple[str, str]] = []  # texts, and the fields that they were in

    def check_prompt(self, text: str, field: str) -> None:
        self.checked.append((text, field))
        super().check_prompt(text, field)

    @classmethod
    def open(cls, folder: Path) -> Self:
        raise NotImplementedError

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    def build(self, placement: Placement) -> ImageModel[Any]:
        raise NotImplementedError


@pytest.fixture(scope="session")
def models(tiny_models: dict[str, Path]) -> dict[str, Checkpoint]:
    """Of each family, by its name, and "opaque"."""
    return {family: open_checkpoint(folder) for family, folder in tiny_models.items()}


@pytest.fixture(scope="session")
def flow(models: dict[str, Checkpoint]) -> Checkpoint:
    return models["flow"]


def noise(width: int, height: int) -> bytes:
    """A file of it."""
    return written(corpus.noise(width, height), "PNG")


def square(width: int, height: int, box: tuple[int, int, int, int]) -> bytes:
    """A file of a mask."""
    return written(box_mask(width, height, box), "PNG")


RED = written(Image.new("RGB", (20, 20), "red"), "PNG")


def edit(operation: EditName, image: bytes | None = None, **fields: Any) -> EditRequest:
    return EditRequest(operation=operation, images=(image or noise(20, 20),), **fields)


def refusal(ask: Callable[[], object]) -> tuple[str, str, str]:
    """The field, the message and the code that it is refused with."""
    with pytest.raises(InvalidField) as refused:
        ask()
    return refused.value.field, str(refused.value), refused.value.code


def refused(checkpoint: Checkpoint, limits: Limits = LIMITS, **wanted: Any) -> tuple[str, str]:
    """The same of a request, without the code where it is the usual one."""
    field, message, code = refusal(lambda: resolve(Wanted(**wanted), checkpoint, limits))
    assert code == "invalid_value"
    return field, message


def resolved(checkpoint: Checkpoint, **wanted: Any) -> Generation:
    return resolve(Wanted(**wanted), checkpoint, LIMITS)


class TestDefaults:
    def test_what_is_not_given_is_the_models_own(self, flow: Checkpoint) -> None:
        generation = resolved(flow, prompt="red apple", seed=7)
        (request,) = generation.requests
        assert request == flow.spec.request("red apple", 7)
        assert dict(request.parameters) == {"guidance": 2, "solver_order": 1, "steps": 4}
        assert (request.width, request.height) == (SIDE, SIDE)
        output = generation.output
        assert (output.format, output.width, output.height) == ("png", SIDE, SIDE)
        assert (output.background, output.quality) == ("ffffff", 90)
        assert generation.seeded
        assert generation.addressable
        assert not generation.walk
        assert generation.operation == "generate"
        assert generation.prompt == "red apple"

    def test_an_operation_may_have_another(self) -> None:
        own = replace(STEPS, defaults={"upscale": 20, "inpaint": 12, "denoise": 3})
        paper = Paper(parameters=(own,), operations=DRAWING)

        def steps(operation: EditName, **given: float) -> float:
            edit = EditRequest(operation=operation, images=(noise(32, 32),))
            wanted = {"prompt": "red apple", "parameters": given, "edit": edit}
            return resolved(paper, **wanted).requests[0].value("steps")

        assert resolved(paper).requests[0].value("steps") == steps("vary") == 8
        assert steps("upscale") == 20
        assert steps("outpaint") == 12
        assert steps("upscale", steps=8) == 8
        assert steps("denoise") == 1  # what is said of the edit goes before

    def test_equal_questions_are_equal_requests_and_hashable(self, flow: Checkpoint) -> None:
        named = resolved(
            flow, seed=7, parameters={"steps": 4, "guidance": 2.0, "solver_order": 1}, size=SIDE
        )
        left = resolved(flow, seed=7)
        assert named == left
        assert hash(named.requests) == hash(left.requests)
        # To the letter, too: what they are called is part of a file's ETag.
        assert repr(named.requests) == repr(left.requests)

    @pytest.mark.parametrize(
        ("family", "parameters"),
        [
            ("gan", {"steps": 1, "guidance": 1}),
            (
                "gpt",
                {"steps": 16, "guidance": 2, "temperature": 1, "top_k": 0, "top_p": 1},
            ),
        ],
    )
    def test_each_family_has_its_own(
        self, models: dict[str, Checkpoint], family: str, parameters: dict[str, float]
    ) -> None:
        (request,) = resolved(models[family], seed=1).requests
        assert dict(request.parameters) == parameters


class TestSeeds:
    def test_without_one_it_is_random_and_not_worth_keeping(self, flow: Checkpoint) -> None:
        one, other = (resolved(flow) for _ in "ab")
        assert one.requests[0].seed != other.requests[0].seed
        assert all(0 <= request.seed < SEEDS for request in (*one.requests, *other.requests))
        assert not one.seeded

    def test_image_k_is_the_one_that_seed_plus_k_gives_alone(self, flow: Checkpoint) -> None:
        generation = resolved(flow, seed=SEEDS - 2, n=3)
        assert [request.seed for request in generation.requests] == [SEEDS - 2, SEEDS - 1, 0]
        for request in generation.requests:
            assert resolved(flow, seed=request.seed).requests == (request,)
        assert generation.files == 3

    @pytest.mark.parametrize(
        ("text", "seed"),
        [("0", 0), ("7", 7), ("007", 7), (str(SEEDS - 1), SEEDS - 1)],
    )
    def test_digits_in_range_are_the_integer(self, text: str, seed: int) -> None:
        assert seed_of(text) == seed

    @pytest.mark.parametrize(
        "text", ["ada", "-1", "7 ", "7.0", "\u0667", str(SEEDS), "9" * 5000, "\n"]
    )
    def test_any_other_string_is_53_bits_of_its_sha256(self, text: str) -> None:
        first = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        assert seed_of(text) == first >> 3
        assert seed_of(text) < SEEDS

    def test_one_name_in_two_normal_forms_is_one_seed(self) -> None:
        assert seed_of("Zoë") == seed_of("Zoe\u0308")


class TestParameters:
    def test_those_given_replace_the_defaults(self, flow: Checkpoint) -> None:
        given = {"steps": 100, "guidance": 0, "solver_order": 2}
        (request,) = resolved(flow, parameters=given).requests
        assert dict(request.parameters) == given
        assert request.parameters == tuple(sorted(request.parameters))

    @pytest.mark.parametrize(
        ("family", "name", "value", "message"),
        [
            ("flow", "steps", 0, "0 was given, 1 to 100 is accepted"),
            ("flow", "steps", 101, "101 was given, 1 to 100 is accepted"),
            ("flow", "steps", 2.5, "2.5 was given, a whole number, 1 to 100, is accepted"),
            ("flow", "steps", float("nan"), "nan was given, 1 to 100 is accepted"),
            ("flow", "steps", float("inf"), "inf was given, 1 to 100 is accepted"),
            ("flow", "guidance", -0.1, "-0.1 was given, 0 to 10 is accepted"),
            ("flow", "guidance", 10.5, "10.5 was given, 0 to 10 is accepted"),
            ("flow", "solver_order", 3, "3 was given, 1 to 2 is accepted"),
            ("gan", "steps", 4, "4 was given, 1 is accepted"),
            ("gan", "guidance", 2, "2 was given, 1 is accepted"),
            ("gpt", "steps", 4, "4 was given, 16 is accepted"),
            ("gpt", "guidance", 0, "0 was given, 1 to 10 is accepted"),
            ("gpt", "top_k", 13, "13 was given, 0 to 12 is accepted"),
            ("gpt", "temperature", 2.1, "2.1 was given, 0 to 2 is accepted"),
            ("gpt", "top_p", -1, "-1 was given, 0 to 1 is accepted"),
        ],
    )
    def test_out_of_range(
        self, models: dict[str, Checkpoint], family: str, name: str, value: float, message: str
    ) -> None:
        assert refused(models[family], parameters={name: value}) == (name, message)

    @pytest.mark.parametrize(
        ("family", "name", "message"),
        [
            (
                "flow",
                "stepz",
                "means nothing to tiny, which takes steps, guidance, solver_order",
            ),
            (
                "flow",
                "temperature",
                "means nothing to tiny, which takes steps, guidance, solver_order",
            ),
            ("gan", "solver_order", "means nothing to tiny-gan, which takes steps, guidance"),
            (
                "gpt",
                "strength",
                "means nothing to tiny-gpt, which takes steps, guidance, temperature, top_k, top_p",
            ),
            ("flow", "strength", "means nothing to generate, only to inpaint, vary"),
            ("flow", "noise", "means nothing to generate, only to denoise"),
        ],
    )
    def test_of_another_model_or_operation(
        self, models: dict[str, Checkpoint], family: str, name: str, message: str
    ) -> None:
        assert refused(models[family], parameters={name: 1}) == (name, message)

    def test_a_negative_prompt_is_for_models_that_take_one(self, flow: Checkpoint) -> None:
        assert refused(flow, negative_prompt="blur") == (
            "negative_prompt",
            "means nothing to tiny",
        )
        assert resolved(flow, negative_prompt="").requests
        taking = Paper(negative_prompt=True)
        (request,) = resolved(taking, negative_prompt="blur").requests
        assert request.negative_prompt == "blur"
        assert taking.checked == [("blur", "negative_prompt")]
        field, message, code = refusal(lambda: resolved(taking, negative_prompt="a " * 9))
        assert (field, code) == ("negative_prompt", "prompt_too_long")
        assert message == "has 9 tokens, paper takes at most 8"


class TestAdapters:
    """LoRA, by name."""

    SCALE = Parameter("lora_scale", 0, 2, 1, 0.05, "How much of the adapter.")

    @pytest.fixture
    def styled(self) -> Paper:
        return Paper(loras=("ink", "oil"), parameters=(STEPS, self.SCALE))

    def test_one_is_named(self, styled: Paper) -> None:
        (request,) = resolved(styled, seed=1, lora="ink").requests
        assert request.lora == "ink"
        assert dict(request.parameters) == {"steps": 8, "lora_scale": 1}
        assert request == styled.spec.request(seed=1, lora="ink")

    def test_one_that_is_not_there_is_refused_with_those_that_are(self, styled: Paper) -> None:
        for checkpoint, has in ((styled, "it has ink, oil"), (Paper(), "it has none")):
            assert refusal(partial(resolved, checkpoint, lora="tin")) == (
                "lora",
                f"paper has no adapter 'tin'; {has}",
                "lora_not_found",
            )

    def test_without_one_its_scale_makes_no_difference(self, styled: Paper) -> None:
        plain, scaled = (
            resolved(styled, seed=1, parameters=parameters)
            for parameters in ({}, {"lora_scale": 0.5})
        )
        assert plain.requests == scaled.requests
        assert dict(plain.requests[0].parameters) == {"steps": 8}
        assert refused(styled, parameters={"lora_scale": 3}) == (
            "lora_scale",
            "3 was given, 0 to 2 is accepted",
        )
        assert refused(Paper(), parameters={"lora_scale": 1}) == (
            "lora_scale",
            "means nothing to paper, which takes steps",
        )


class TestCost:
    """Evaluations, which rate limits count."""

    @pytest.mark.parametrize(
        ("family", "wanted", "evaluations"),
        [
            ("flow", {}, 4),  # without a prompt there is nothing to guide towards
            ("flow", {"prompt": "a"}, 8),
            ("flow", {"prompt": "a", "n": 3}, 24),
            ("flow", {"prompt": "a", "walk": 3}, 24),
            ("flow", {"prompt": "a", "parameters": {"guidance": 1}}, 4),
            ("flow", {"prompt": "a", "parameters": {"solver_order": 2, "steps": 5}}, 20),
            ("gan", {"prompt": "a", "n": 3}, 3),
            ("gpt", {"prompt": "a"}, 32),
            ("gpt", {}, 16),
        ],
    )
    def test_of_a_generation(
        self,
        models: dict[str, Checkpoint],
        family: str,
        wanted: dict[str, Any],
        evaluations: int,
    ) -> None:
        assert resolved(models[family], **wanted).evaluations == evaluations


class TestLimits:
    def test_texts(self, flow: Checkpoint) -> None:
        assert refused(flow, prompt="a" * 5001) == (
            "prompt",
            "has 5001 characters, at most 5000 are accepted",
        )
        field, message, code = refusal(lambda: resolved(flow, prompt="z9 " * 40))
        assert (field, code) == ("prompt", "prompt_too_long")
        assert message.endswith("tokens, tiny takes at most 48")

    def test_images(self, flow: Checkpoint) -> None:
        assert len(resolved(flow, n=10).requests) == 10
        assert refused(flow, n=11) == ("n", "11 was given, at most 10 are accepted")
        assert refused(flow, Limits(max_n=1), n=2) == ("n", "2 was given, at most 1 are accepted")


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size"), [("128", 128), ("128x96", (128, 96)), ("1x1", (1, 1))]
    )
    def test_texts(self, text: str, size: int | Size) -> None:
        assert parse_size(text) == size

    @pytest.mark.parametrize(
        "text", ["", "x", "64x", "x64", "64x64x64", "64X64", "-1", "1.5", "0", "0x1", "٦٤", "²"]
    )
    def test_no_sizes(self, text: str) -> None:
        with pytest.raises(ValueError, match='expected pixels such as "128", or width x height'):
            parse_size(text)

    @pytest.mark.parametrize("size", [None, 128, (128, 128), 1, 1024])
    def test_a_model_of_squares_is_resampled_to_any_square(
        self, flow: Checkpoint, size: int | Size | None
    ) -> None:
        generation = resolved(flow, size=size)
        output = generation.output
        assert output.width == output.height
        assert output.width == (max(size) if isinstance(size, tuple) else size or SIDE)
        assert (generation.requests[0].width, generation.requests[0].height) == (SIDE, SIDE)

    def test_another_aspect_is_refused_with_what_is_drawn(self, flow: Checkpoint) -> None:
        field, message = refused(flow, size=(128, 96))
        assert field == "size"
        assert message == "128x96 was given, tiny draws 16x16, resampled for other squares"

    @pytest.mark.parametrize(
        ("size", "message"),
        [
            (1025, "1025 was given, at most 1024 is accepted along each side"),
            ((16, 1025), "16x1025 was given, at most 1024 is accepted along each side"),
            (0, "0 was given, at most 1024 is accepted along each side"),
        ],
    )
    def test_no_side_is_longer_than_the_limit(
        self, flow: Checkpoint, size: int | Size, message: str
    ) -> None:
        assert refused(flow, size=size) == ("size", message)

    @pytest.mark.parametrize(
        ("sizes", "size", "drawn"),
        [
            # A native size that is no square, others, and resampling of the native aspect.
            (Sizes(64, 48, others=((48, 64),)), None, (64, 48)),
            (Sizes(64, 48, others=((48, 64),)), (48, 64), (48, 64)),
            (Sizes(64, 48, others=((48, 64),)), (128, 96), (64, 48)),
            # Any multiple within bounds, also beyond those of resampling.
            (FREE, None, (64, 64)),
            (FREE, (128, 64), (128, 64)),
            (FREE, 32, (32, 32)),
            (LARGE, None, (1328, 1328)),
            (LARGE, 1328, (1328, 1328)),
            (LARGE, (1536, 640), (1536, 640)),
            (Sizes(2048, 2048), 2048, (2048, 2048)),
            (Sizes(2048, 2048), 512, (2048, 2048)),
        ],
    )
    def test_a_model_draws_what_it_can(
        self, sizes: Sizes, size: int | Size | None, drawn: Size
    ) -> None:
        generation = resolved(Paper(sizes=sizes), size=size)
        assert (generation.requests[0].width, generation.requests[0].height) == drawn
        wanted = (size, size) if isinstance(size, int) else size or sizes.native
        assert (generation.output.width, generation.output.height) == wanted

    @pytest.mark.parametrize(
        ("sizes", "size", "says"),
        [
            (Sizes(64, 48), 64, "64x64 was given, paper draws 64x48, resampled for other "),
            (
                FREE,
                (128, 80),
                (
                    "128x80 was given, paper draws 64x64, or multiples of 16 from 32 to 128 "
                    "with at most 8192 pixels"
                ),
            ),
            # What could be resampled is not: its size would be a lie about what is drawn.
            (FREE, 128, "128x128 was given, paper draws 64x64, or multiples of 16"),
            (FREE, 65, "65x65 was given, paper draws 64x64, or multiples of 16"),
            (FREE, 0, "0x0 was given, paper draws 64x64, or multiples of 16"),
            (LARGE, 9000, "9000x9000 was given, paper draws 1328x1328, or multiples of 32"),
            (Sizes(2048, 2048), 1025, "1025 was given, at most 1024 is accepted along each side"),
        ],
    )
    def test_and_refuses_the_rest(self, sizes: Sizes, size: int | Size, says: str) -> None:
        field, message = refused(Paper(sizes=sizes), size=size)
        assert field == "size"
        assert message.startswith(says)


class TestBackgrounds:
    @pytest.mark.parametrize(
        ("text", "background"),
        [
            ("white", "ffffff"),
            ("transparent", TRANSPARENT),
            ("#FF8800", "ff8800"),
            ("f80", "ff8800"),
            ("#f80", "ff8800"),
        ],
    )
    def test_texts(self, text: str, background: str) -> None:
        assert parse_background(text) == background

    @pytest.mark.parametrize(
        "text",
        ["", "blue", "#ff880", "##f80", "f80 ", "#f80\n", "Transparent", "#0008", "rgba(0,0,0,0)"],
    )
    def test_no_backgrounds(self, flow: Checkpoint, text: str) -> None:
        message = (
            f'{text!r} was given, accepted: "white", "transparent" or a colour such as #ff8800 '
            "or #f80"
        )
        assert refused(flow, background=text) == ("background", message)

    def test_transparency_needs_a_file_and_a_model_that_have_it(
        self, flow: Checkpoint, models: dict[str, Checkpoint]
    ) -> None:
        for form in ("png", "webp"):
            assert resolved(flow, background=TRANSPARENT, format=form).output.background == (
                TRANSPARENT
            )
        assert refused(flow, background=TRANSPARENT, format="jpeg") == (
            "background",
            "a jpeg cannot be transparent; png and webp can",
        )
        assert refused(models["opaque"], background=TRANSPARENT) == (
            "background",
            "tiny-opaque draws opaque images only",
        )


class TestWalks:
    def test_a_walk_is_one_file_of_many_frames(self, flow: Checkpoint) -> None:
        generation = resolved(flow, prompt="a", seed=7, walk=4, format="webp")
        assert [request.phase for request in generation.requests] == [0, 0.25, 0.5, 0.75]
        assert {request.seed for request in generation.requests} == {7}
        assert {request.operation for request in generation.requests} == {"walk"}
        assert (generation.walk, generation.files, generation.operation) == (True, 1, "walk")

    @pytest.mark.parametrize(
        ("wanted", "field", "message"),
        [
            ({"walk": 25}, "walk", "25 was given, at most 24 frames are accepted"),
            ({"walk": 4, "n": 2}, "n", "2 was given, a walk is one picture"),
            ({"walk": 4, "format": "jpeg"}, "walk", "a jpeg cannot be animated; webp and png can"),
            (
                {"walk": 4, "parameters": {"strength": 0.5}},
                "strength",
                "means nothing to walk, only to inpaint, vary",
            ),
        ],
    )
    def test_what_cannot_be_walked(
        self, flow: Checkpoint, wanted: dict[str, Any], field: str, message: str
    ) -> None:
        assert refused(flow, **wanted) == (field, message)

    def test_some_models_cannot(self, models: dict[str, Checkpoint]) -> None:
        assert resolved(models["gan"], walk=4).walk
        field, message = refused(models["gpt"], walk=4)
        assert field == "walk"
        assert message.startswith("4 was given, tiny-gpt cannot walk")


class TestEdits:
    @pytest.mark.parametrize(
        ("operation", "fields", "parameters", "does", "expected"),
        [
            ("vary", {}, {}, "vary", {"strength": 0.7, "steps": 4}),
            ("vary", {}, {"strength": 0.25, "steps": 3}, "vary", {"strength": 0.25, "steps": 3}),
            ("restyle", {}, {}, "vary", {"strength": 0.8, "steps": 4}),
            ("colorize", {}, {}, "colorize", {"steps": 4}),
            ("denoise", {}, {"noise": 0.1}, "denoise", {"noise": 0.1, "steps": 1}),
            ("denoise", {}, {"steps": 5}, "denoise", {"steps": 5}),
            ("outpaint", {}, {}, "inpaint", {"strength": 1, "steps": 4}),
            ("inpaint", {"mask": True}, {"strength": 0.3}, "inpaint", {"strength": 0.3}),
            ("inpaint", {"mask": True}, {}, "inpaint", {"strength": 1}),
        ],
    )
    def test_what_the_model_is_asked_for(
        self,
        flow: Checkpoint,
        operation: EditName,
        fields: dict[str, Any],
        parameters: dict[str, float],
        does: str,
        expected: dict[str, float],
    ) -> None:
        if "mask" in fields:
            fields = {"mask": square(20, 20, (4, 4, 8, 8))}
        generation = resolved(
            flow,
            prompt="red apple",
            seed=7,
            n=2,
            parameters=parameters,
            edit=edit(operation, **fields),
        )
        assert [request.seed for request in generation.requests] == [7, 8]
        assert generation.operation == operation
        assert not generation.addressable
        for request in generation.requests:
            assert request.operation == does
            given = dict(request.parameters)
            assert given.items() >= expected.items()
            assert set(given) - set(expected) <= {"steps", "guidance", "solver_order"}
            assert request.source is not None
            picture = request.source.picture
            assert (picture.width, picture.height, picture.channels) == (SIDE, SIDE, 4)
            assert (request.source.mask is not None) == (does == "inpaint")

    @pytest.mark.parametrize("size", [(1024, 682), (1024, 683), (120, 80), (11, 7), (11, 8)])
    def test_a_shorter_side_is_rounded_up_or_down(self, flow: Checkpoint, size: Size) -> None:
        upload = written(Image.new("RGB", (120, 80)), "PNG")
        wanted = Wanted(size=size, edit=EditRequest(operation="vary", images=(upload,)))
        output = resolve(wanted, flow, LIMITS).output
        assert (output.width, output.height) == size
        for other in ((1024, 681), (1024, 684), (120, 79), (120, 81)):
            with pytest.raises(InvalidField, match="can be answered as"):
                resolve(replace(wanted, size=other), flow, LIMITS)

    @pytest.mark.parametrize(
        ("operation", "wanted", "field", "message"),
        [
            (
                "vary",
                {"parameters": {"strength": 0}},
                "strength",
                "0 was given, 0.01 to 1 is accepted",
            ),
            (
                "vary",
                {"parameters": {"noise": 0.1}},
                "noise",
                "means nothing to vary, only to denoise",
            ),
            (
                "colorize",
                {"parameters": {"strength": 1}},
                "strength",
                "means nothing to colorize, only to inpaint, vary",
            ),
            (
                "outpaint",
                {"parameters": {"strength": 0.5}},
                "strength",
                "means nothing to outpaint",
            ),
            ("restyle", {}, "prompt", "is required: restyle needs to know what to make"),
            (
                "restyle",
                {"prompt": " "},
                "prompt",
                "is required: restyle needs to know what to make",
            ),
            ("vary", {"n": 11}, "n", "11 was given, at most 10 are accepted"),
            (
                "vary",
                {"size": 1025},
                "size",
                "1025 was given, at most 1024 is accepted along each side",
            ),
            (
                "vary",
                {"size": (40, 41)},
                "size",
                (
                    "40x41 was given, an image of this aspect can be answered as 41x41, or in "
                    "its own size"
                ),
            ),
            (
                "vary",
                {"background": TRANSPARENT, "format": "jpeg"},
                "background",
                "a jpeg cannot be transparent; png and webp can",
            ),
        ],
    )
    def test_what_is_refused(
        self,
        flow: Checkpoint,
        operation: EditName,
        wanted: dict[str, Any],
        field: str,
        message: str,
    ) -> None:
        assert refused(flow, edit=edit(operation), **wanted) == (field, message)

    @pytest.mark.parametrize(
        ("operation", "fields", "field", "message"),
        [
            ("vary", {"factor": 2}, "factor", "means nothing to vary, only to upscale"),
            ("vary", {"mask": b"mask"}, "mask", "means nothing to vary, only to inpaint"),
            ("inpaint", {"left": 5}, "left", "means nothing to inpaint, only to outpaint"),
            ("outpaint", {"mask": b"mask"}, "mask", "means nothing to outpaint, only to inpaint"),
            ("upscale", {"factor": 3}, "factor", "3 was given, 2 and 4 are accepted"),
        ],
    )
    def test_fields_of_other_operations_mean_nothing(
        self, operation: EditName, fields: dict[str, Any], field: str, message: str
    ) -> None:
        assert refusal(lambda: edit(operation, **fields)) == (field, message, "invalid_value")

    @pytest.mark.parametrize(
        ("operation", "fields", "code", "says"),
        [
            (
                "upscale",
                {},
                "image_too_large",
                (
                    "has 300 x 20 pixels; at most 256 x 256 by 2 and 128 x 128 by 4 can be "
                    "upscaled: a result has at most 512 x 512"
                ),
            ),
            (
                "inpaint",
                {},
                "no_mask",
                "has no transparent pixels, and no mask came with it",
            ),
        ],
    )
    def test_images_that_will_not_do(
        self, flow: Checkpoint, operation: EditName, fields: dict[str, Any], code: str, says: str
    ) -> None:
        image = noise(300, 20) if operation == "upscale" else RED
        asked = edit(operation, image, **fields)
        assert refusal(lambda: resolved(flow, edit=asked)) == ("image", says, code)

    def test_a_model_without_the_operation_says_what_it_can(
        self, models: dict[str, Checkpoint]
    ) -> None:
        assert refused(models["gan"], edit=edit("upscale")) == (
            "operation",
            "tiny-gan cannot upscale; it can generate, walk",
        )
        assert refused(models["gpt"], edit=edit("restyle")) == (
            "operation",
            "tiny-gpt cannot restyle; it can generate, describe, inpaint, outpaint",
        )
        assert offered(("generate", "vary")) == ["generate", "vary", "restyle"]
        assert offered(("inpaint", "generate")) == ["generate", "inpaint", "outpaint"]

    def test_a_gpt_paints_in_without_a_strength(self, models: dict[str, Checkpoint]) -> None:
        asked = edit("inpaint", mask=square(20, 20, (4, 4, 8, 8)))
        (request,) = resolved(models["gpt"], seed=1, edit=asked).requests
        assert "strength" not in dict(request.parameters)
        assert refused(models["gpt"], parameters={"strength": 0.5}, edit=asked) == (
            "strength",
            "means nothing to tiny-gpt, which takes steps, guidance, temperature, top_k, top_p",
        )

    def test_defaults_of_an_operation_are_for_models_that_have_the_parameter(self) -> None:
        assert EDITS["vary"].defaults == {"strength": 0.7}
        (request,) = resolved(Paper(), edit=edit("vary")).requests
        assert dict(request.parameters) == {"steps": 8}

    @pytest.mark.parametrize(
        ("operation", "image", "fields", "size", "answered"),
        [
            ("vary", (64, 32), {}, None, (16, 8)),
            ("vary", (30, 60), {}, 100, (50, 100)),
            ("vary", (30, 60), {}, (50, 100), (50, 100)),
            ("inpaint", (64, 32), {"mask": True}, None, (64, 32)),
            ("outpaint", (40, 20), {}, None, (60, 30)),
            ("outpaint", (40, 20), {"left": 50}, None, (60, 20)),
            ("upscale", (5, 3), {}, None, (10, 6)),
            ("upscale", (4, 1), {"factor": 4}, None, (16, 4)),
            ("upscale", (4, 1), {"factor": 4}, 32, (32, 8)),
            ("upscale", (33, 7), {}, None, (66, 14)),
            ("upscale", (128, 30), {"factor": 4}, None, (512, 120)),
            ("upscale", (40, 50), {"factor": 4}, 100, (80, 100)),
        ],
    )
    def test_an_answer_has_the_aspect_of_the_upload(
        self,
        flow: Checkpoint,
        operation: EditName,
        image: Size,
        fields: dict[str, Any],
        size: int | Size | None,
        answered: Size,
    ) -> None:
        if "mask" in fields:
            fields = {"mask": square(*image, (4, 4, 8, 8))}
        asked = edit(operation, noise(*image), **fields)
        generation = resolved(flow, size=size, edit=asked)
        assert (generation.output.width, generation.output.height) == answered
        assert generation.pixels == answered[0] * answered[1]
        (request,) = generation.requests
        drawn = (SIDE, SIDE)
        if operation == "upscale":
            factor = fields.get("factor", 2)
            drawn = max(SIDE, factor * image[0]), max(SIDE, factor * image[1])
        assert (request.width, request.height) == drawn

    def test_all_answers_together_are_bounded(self, flow: Checkpoint) -> None:
        limits = Limits(max_upload_pixels=10_000)
        asked = edit("inpaint", noise(80, 80), mask=square(80, 80, (4, 4, 8, 8)))
        assert resolve(Wanted(edit=asked), flow, limits).pixels == 6400
        assert refused(flow, limits, edit=asked, n=2) == (
            "n",
            (
                "2 images of 80 x 80 pixels were asked for; at most 10000 pixels are accepted, "
                "all together"
            ),
        )
        # Where the answers have another size, it is theirs that counts.
        small = resolve(Wanted(edit=edit("vary", noise(80, 80)), n=10), flow, limits)
        assert small.pixels == 10 * SIDE * SIDE
        code = refusal(lambda: resolve(Wanted(edit=edit("vary", noise(101, 100))), flow, limits))[2]
        assert code == "image_too_large"

    @pytest.mark.parametrize(
        ("image", "form", "background", "expected"),
        [
            ("clear", "png", None, TRANSPARENT),
            ("clear", "webp", None, TRANSPARENT),
            ("clear", "jpeg", None, "ffffff"),
            ("clear", "png", "f80", "ff8800"),
            ("opaque", "png", None, "ffffff"),
            ("opaque", "png", TRANSPARENT, TRANSPARENT),
        ],
    )
    @pytest.mark.parametrize("operation", ["vary", "outpaint"])
    def test_what_can_be_seen_through_still_can_be(
        self,
        flow: Checkpoint,
        operation: EditName,
        image: str,
        form: Format,
        background: str | None,
        expected: str,
    ) -> None:
        upload = noise(20, 20) if image == "clear" else RED
        asked = edit(operation, upload)
        generation = resolved(flow, edit=asked, format=form, background=background)
        assert generation.output.background == expected

    def test_an_edit_of_an_opaque_model_is_clear_only_where_the_upload_is_kept(
        self, models: dict[str, Checkpoint]
    ) -> None:
        opaque = models["opaque"]
        assert resolved(opaque, edit=edit("outpaint")).output.background == TRANSPARENT
        assert resolved(opaque, edit=edit("vary")).output.background == "ffffff"
        assert refused(opaque, edit=edit("vary"), background=TRANSPARENT) == (
            "background",
            "tiny-opaque draws opaque images only",
        )


class TestFlexibleModels:
    """Models that draw many sizes, and take uploads in the aspect that these have."""

    @pytest.fixture
    def flexible(self) -> Paper:
        strength = Parameter("strength", 0, 1, 1, 0.1, "Strength.", ("vary", "inpaint"))
        return Paper(
            sizes=FREE,
            parameters=(STEPS, strength),
            operations=("generate", "vary", "inpaint", "edit"),
            images=3,
        )

    @pytest.mark.parametrize(
        ("operation", "image", "size", "drawn", "answered"),
        [
            ("vary", (64, 64), None, (64, 64), (64, 64)),
            ("vary", (300, 150), None, (96, 48), (96, 48)),
            ("restyle", (150, 300), None, (48, 96), (48, 96)),
            ("vary", (300, 150), 200, (96, 48), (200, 100)),
            ("vary", (300, 150), (200, 100), (96, 48), (200, 100)),
            ("vary", (300, 150), (64, 32), (64, 32), (64, 32)),  # drawn as it was asked for
            ("inpaint", (300, 150), None, (96, 48), (300, 150)),
            ("inpaint", (300, 150), (64, 32), (64, 32), (64, 32)),
            ("outpaint", (100, 100), None, (64, 64), (150, 150)),
            ("edit", (300, 150), None, (96, 48), (96, 48)),
            ("edit", (300, 150), 48, (96, 48), (48, 24)),
            ("edit", (300, 150), (64, 64), (64, 64), (64, 64)),  # any that it draws
            ("edit", (10, 10), (128, 32), (128, 32), (128, 32)),
        ],
    )
    def test_what_is_drawn_and_what_is_answered(
        self,
        flexible: Paper,
        operation: EditName,
        image: Size,
        size: int | Size | None,
        drawn: Size,
        answered: Size,
    ) -> None:
        mask = square(*image, (4, 4, 8, 8)) if operation == "inpaint" else None
        asked = edit(operation, noise(*image), mask=mask)
        generation = resolved(flexible, prompt="a", size=size, edit=asked)
        (request,) = generation.requests
        assert (request.width, request.height) == drawn
        assert (generation.output.width, generation.output.height) == answered
        flexible.spec.check(request)

    @pytest.mark.parametrize(
        ("operation", "image", "size", "field", "says"),
        [
            ("vary", (90, 20), None, "image", "has 90 x 20 pixels; at most 4 times as long as"),
            ("edit", (20, 90), None, "image", "has 20 x 90 pixels; at most 4 times as long as"),
            ("edit", (64, 64), (65, 65), "size", "65x65 was given, paper draws 64x64, or mult"),
            ("edit", (64, 64), (300, 300), "size", "300x300 was given, paper draws 64x64, or"),
            ("edit", (64, 64), 1025, "size", "1025 was given, at most 1024 is accepted along"),
            ("vary", (64, 64), (64, 32), "size", "64x32 was given, an image of this aspect can"),
            ("vary", (64, 64), 0, "size", "0 was given, at most 1024 is accepted along each"),
        ],
    )
    def test_what_is_refused(
        self,
        flexible: Paper,
        operation: EditName,
        image: Size,
        size: int | Size | None,
        field: str,
        says: str,
    ) -> None:
        asked = edit(operation, noise(*image))
        found = refusal(lambda: resolved(flexible, prompt="a", size=size, edit=asked))
        assert found[0] == field
        assert found[1].startswith(says)

    def test_an_edit_draws_its_own_sizes_though_they_are_large(self) -> None:
        large = Paper(sizes=LARGE, operations=("edit",))
        for size, drawn in ((None, (1856, 928)), ((1536, 640), (1536, 640)), (1856, (1856, 928))):
            generation = resolved(large, prompt="a", size=size, edit=edit("edit", noise(40, 20)))
            output = generation.output
            assert (output.width, output.height) == drawn
        repainted = edit("inpaint", noise(40, 20), mask=square(40, 20, (4, 4, 8, 8)))
        painting = Paper(sizes=LARGE, operations=("inpaint",))
        assert refused(painting, size=1536, edit=repainted)[0] == "size"  # that is resampling


class TestReferences:
    """ "edit": what the prompt says, with one or several images."""

    @pytest.fixture
    def editor(self) -> Paper:
        return Paper(operations=("generate", "vary", "edit"), images=2, negative_prompt=True)

    def test_all_images_reach_the_model_in_their_order(self, editor: Paper) -> None:
        asked = EditRequest(operation="edit", images=(noise(20, 10), RED))
        generation = resolved(
            editor, prompt="a red hat", negative_prompt="blur", seed=7, n=2, edit=asked
        )
        assert [request.seed for request in generation.requests] == [7, 8]
        assert (generation.operation, generation.addressable) == ("edit", False)
        (first, _) = generation.requests
        editor.spec.check(first)
        assert (first.operation, first.negative_prompt) == ("edit", "blur")
        assert dict(first.parameters) == {"steps": 8}
        assert first.source is not None
        assert (first.source.picture.width, first.source.picture.height) == (20, 10)
        (other,) = first.source.others
        assert other.pixels == bytes((255, 0, 0)) * 400
        assert generation.source_bytes == 3 * (20 * 10 + 20 * 20)
        assert ("a red hat", "prompt") in editor.checked

    @pytest.mark.parametrize(
        ("wanted", "images", "field", "message"),
        [
            ({}, 1, "prompt", "is required: edit needs to know what to make"),
            ({"prompt": "a"}, 3, "image", "3 were given, paper takes at most 2"),
            (
                {"prompt": "a", "parameters": {"strength": 0.5}},
                1,
                "strength",
                "means nothing to paper, which takes steps",
            ),
            (
                {"prompt": "a", "size": (64, 48)},
                1,
                "size",
                "64x48 was given, paper draws 64x64, resampled for other squares",
            ),
        ],
    )
    def test_what_is_refused(
        self, editor: Paper, wanted: dict[str, Any], images: int, field: str, message: str
    ) -> None:
        asked = EditRequest(operation="edit", images=(RED,) * images)
        assert refused(editor, edit=asked, **wanted) == (field, message)

    def test_a_mask_means_nothing_to_it(self) -> None:
        field, message, _ = refusal(lambda: edit("edit", mask=b"mask"))
        assert (field, message) == ("mask", "means nothing to edit, only to inpaint")

    def test_a_model_of_one_size_resamples_its_answer(self, editor: Paper) -> None:
        for size, answered in ((None, (64, 64)), (128, (128, 128)), ((32, 32), (32, 32))):
            asked = edit("edit", noise(90, 20))
            generation = resolved(editor, prompt="a", size=size, edit=asked)
            assert (generation.requests[0].width, generation.requests[0].height) == (64, 64)
            assert (generation.output.width, generation.output.height) == answered

    def test_a_model_that_draws_nothing_without_an_image_says_so(self) -> None:
        assert refused(Paper(operations=("edit",)), prompt="a") == (
            "model",
            "paper draws nothing without an image; it can edit",
        )
        assert offered(("generate", "edit", "vary")) == ["generate", "vary", "restyle", "edit"]

    def test_another_seed_needs_no_other_look_at_the_images(self, editor: Paper) -> None:
        asked = edit("edit", RED)
        first, second = (resolved(editor, prompt="a", seed=k, edit=asked) for k in (7, 8))
        assert first.with_seed(8).requests == second.requests
        walk = resolved(Paper(operations=("generate", "walk")), seed=7, walk=3, format="webp")
        assert [(one.seed, one.phase) for one in walk.with_seed(9).requests] == [
            (9, 0),
            (9, 1 / 3),
            (9, 2 / 3),
        ]


class TestDescriptions:
    def test_a_request_to_describe(self, models: dict[str, Checkpoint]) -> None:
        image = noise(20, 10)
        request = resolve_description(image, ("cat", "dog"), models["gpt"], LIMITS)
        assert (request.operation, request.labels) == ("describe", ("cat", "dog"))
        assert request.parameters == ()
        assert request.source is not None
        assert (request.source.picture.width, request.source.picture.height) == (SIDE, SIDE)
        assert models["gpt"].evaluations(request) == 16 + 2

    def test_labels_are_bounded(self, models: dict[str, Checkpoint]) -> None:
        image = noise(9, 9)

        def with_labels(*labels: str) -> tuple[str, str, str]:
            return refusal(lambda: resolve_description(image, labels, models["gpt"], LIMITS))

        assert with_labels(*map(str, range(65))) == (
            "labels",
            "65 were given, at most 64 are accepted",
            "invalid_value",
        )
        assert with_labels("cat", "many words " * 30) == (
            "labels",
            "has 330 tokens, tiny-gpt takes at most 48",
            "prompt_too_long",
        )
        assert with_labels("a" * 5001)[1] == "has 5001 characters, at most 5000 are accepted"


class TestFindingModels:
    @pytest.fixture
    def loaded(self, models: dict[str, Checkpoint]) -> dict[str, Checkpoint]:
        return {models[family].spec.id: models[family] for family in ("flow", "gpt", "gan")}

    def test_the_first_is_the_default(self, loaded: dict[str, Checkpoint]) -> None:
        assert find_model(None, loaded, {}) == (loaded["tiny"], False)
        assert find_model("tiny-gan", loaded, {}) == (loaded["tiny-gan"], False)

    def test_aliases(self, loaded: dict[str, Checkpoint]) -> None:
        aliases = {"gpt-image-1": "tiny-gpt", "gone": "nowhere"}
        assert find_model("gpt-image-1", loaded, aliases)[0] is loaded["tiny-gpt"]
        assert refusal(lambda: find_model("gone", loaded, aliases))[2] == "model_not_found"

    def test_a_digest_pins(self, loaded: dict[str, Checkpoint]) -> None:
        digest = loaded["tiny"].spec.digest
        for length in (8, 12, 64):
            assert find_model(f"tiny@{digest[:length]}", loaded, {}) == (loaded["tiny"], True)
        aliased = find_model(f"alias@{digest[:8]}", loaded, {"alias": "tiny"})
        assert aliased == (loaded["tiny"], True)

    @pytest.mark.parametrize(
        ("name", "message", "code"),
        [
            ("x", "there is no 'x'; there are tiny, tiny-gpt, tiny-gan", "model_not_found"),
            ("", "there is no ''; there are tiny, tiny-gpt, tiny-gan", "model_not_found"),
            ("tiny@", "a digest has at least 8 characters", "invalid_value"),
            ("tiny@0123456", "a digest has at least 8 characters", "invalid_value"),
        ],
    )
    def test_what_is_not_there(
        self, loaded: dict[str, Checkpoint], name: str, message: str, code: str
    ) -> None:
        assert refusal(lambda: find_model(name, loaded, {})) == ("model", message, code)

    def test_another_digest_is_not_loaded(self, loaded: dict[str, Checkpoint]) -> None:
        digest = loaded["tiny"].spec.digest
        assert refusal(lambda: find_model("tiny@0123456789ab", loaded, {})) == (
            "model",
            f"'tiny@0123456789ab' was asked for, tiny@{digest[:12]} is loaded",
            "not_loaded",
        )

    def test_describers(self, loaded: dict[str, Checkpoint]) -> None:
        assert find_describer(None, loaded, {}) is loaded["tiny-gpt"]
        assert find_describer("tiny-gpt", loaded, {}) is loaded["tiny-gpt"]
        assert refusal(lambda: find_describer("tiny", loaded, {})) == (
            "model",
            "tiny cannot describe; tiny-gpt can",
            "invalid_value",
        )
        assert refusal(lambda: find_describer("x", loaded, {}))[2] == "model_not_found"
        del loaded["tiny-gpt"]
        assert refusal(lambda: find_describer(None, loaded, {})) == (
            "model",
            "none here can describe; there are tiny, tiny-gan",
            "model_not_found",
        )
        assert refusal(lambda: find_describer("tiny", loaded, {}))[1] == (
            "tiny cannot describe; none of those that are loaded can"
        )
