"""If these fail, the service claims that a seed gives an image where it does not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.engine.selftest import examine
from model.protocol import Pass
from model.request import ImageRequest, Picture
from model.runtime.rungs import Rungs
from model.spec import Parameter
from tests.engine.fakes import FakeModel, FakeRow


@pytest.mark.parametrize("model", ["fast", "decoding"])
@pytest.mark.parametrize("tile", [2, 3, 8, 32])
def test_a_model_whose_rows_are_independent_passes(model: str, tile: int) -> None:
    assert examine(FakeModel(model, tile)).seed_exact


@pytest.mark.parametrize("tile", [3, 8, 32])
def test_a_model_whose_images_depend_on_other_rows_is_rejected(tile: int) -> None:
    # The inverse: a self-test that accepts everything would pass the other test, too. A tile of
    # two holds one guided row and no other, so there is nothing to depend on but its position.
    assert not examine(FakeModel("peeking", tile)).seed_exact


class Rounding(FakeModel):
    """Draws other pixels in passes of some sizes, or of one kind in them."""

    def __init__(self, tile: int, wrong: Sequence[int], kind: str = "") -> None:
        super().__init__("fast", tile)
        self.rungs = Rungs(tile)
        self.wrong = wrong
        self.kind = kind

    def step(self, rows: Sequence[FakeRow]) -> list[Pass]:
        kinds = [row.kind for row in rows]
        passes = super().step(rows)
        sizes = {done.kind: done.size for done in passes}
        for row, kind in zip(rows, kinds, strict=True):
            if sizes[kind] in self.wrong and kind.startswith(self.kind):
                row.state += b"rounded otherwise"
        return passes


@pytest.mark.parametrize("tile", [2, 3, 8, 32])
def test_a_model_whose_small_passes_draw_the_same_uses_them(tile: int) -> None:
    model = Rounding(tile, wrong=())
    test = examine(model)
    assert test.seed_exact
    assert test.rungs == (*(size for size in (1, 2, 3, 4, 6, 8, 12, 16, 24) if size < tile), tile)
    assert model.rungs.sizes == test.rungs


@pytest.mark.parametrize("kind", ["", "encode", "draw"])
@pytest.mark.parametrize("wrong", [(1,), (2, 4), (12,), (1, 2, 3, 4, 6, 8, 12)])
def test_sizes_that_draw_something_else_are_lost(wrong: tuple[int, ...], kind: str) -> None:
    # The inverse: all that is left is exact, so the promise holds.
    model = Rounding(16, wrong, kind)
    test = examine(model)
    assert test.rungs == tuple(size for size in (1, 2, 3, 4, 6, 8, 12, 16) if size not in wrong)
    assert test.seed_exact
    assert {model.rungs.holding(kind, count) for count in range(1, 17)} == set(test.rungs)


class Previewing(FakeModel):
    """Draws other pixels once a preview was taken."""

    def result(self, row: FakeRow) -> Picture:
        picture = super().result(row)
        if not row.done:
            row.state += b"seen"
        return picture


def test_a_model_whose_images_depend_on_previews_is_rejected() -> None:
    assert not examine(Previewing("fast", 8)).seed_exact


class DecodingTogether(FakeModel):
    """Decodes previews in a way that depends on what is drawn in the same step."""

    def step(self, rows: Sequence[FakeRow]) -> list[Pass]:
        decoding = [row for row in rows if row.kind == "decode"]
        passes = super().step(rows)
        for row in decoding:
            if len(rows) > 1 and not row.done:
                row.state += b"disturbed"
        return passes


def test_a_model_whose_images_depend_on_decoding_is_rejected() -> None:
    assert not examine(DecodingTogether("decoding", 8)).seed_exact


class Recording(FakeModel):
    """Remembers what was asked of it."""

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        super().__init__("fast", 8)
        self.spec = replace(self.spec, parameters=parameters)
        self.requests: set[ImageRequest] = set()

    def start(self, request: ImageRequest) -> FakeRow:
        self.requests.add(request)
        given = dict(request.parameters)
        full = tuple(sorted({"steps": 1.0, "guidance": 1.0, **given}.items()))
        return super().start(replace(request, parameters=full))

    def cost(self, request: ImageRequest) -> int:
        return 1


def test_the_probes_fit_whatever_parameters_a_family_has() -> None:
    warmth = Parameter("warmth", 0, 1, default=0.5, step=0.1, description="Colours.")
    model = Recording((warmth,))
    assert examine(model).seed_exact
    assert {request.parameters for request in model.requests} == {(("warmth", 0.5),)}


def test_the_probes_take_the_strongest_guidance_and_step_counts_in_range() -> None:
    steps = Parameter("steps", 1, 1, default=1, step=1, description="Steps.")
    guidance = Parameter("guidance", 0, 7, default=2, step=0.1, description="Guidance.")
    model = Recording((steps, guidance))
    assert examine(model).seed_exact
    assert {request.value("steps") for request in model.requests} == {1}
    assert max(request.value("guidance") for request in model.requests) == 7
