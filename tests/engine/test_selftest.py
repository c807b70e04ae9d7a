"""If these fail, the service claims that a seed gives a picture where it does not."""

import pytest

from app.engine.selftest import seed_exact
from tests.engine.fakes import FakeModel


@pytest.mark.parametrize("tile", [2, 3, 8, 32])
def test_a_model_whose_rows_are_independent_passes(tile: int) -> None:
    assert seed_exact(FakeModel("fast", tile))


@pytest.mark.parametrize("tile", [3, 8, 32])
def test_a_model_whose_pictures_depend_on_their_companions_is_rejected(tile: int) -> None:
    # The inverse: a self-test that accepts everything would pass the other test, too. A tile of
    # two holds one guided row and no companion, so there is nothing to depend on but its place.
    assert not seed_exact(FakeModel("peeking", tile))


class Previewing(FakeModel):
    """Draws other pixels once a preview was taken."""

    def result(self, row):  # type: ignore[no-untyped-def]
        picture = super().result(row)
        if not row.done:
            row.state += b"seen"
        return picture


def test_a_model_whose_pictures_depend_on_previews_is_rejected() -> None:
    assert not seed_exact(Previewing("fast", 8))
