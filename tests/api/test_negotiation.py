"""If these fail, browsers, scripts and the official clients get each other's kind of answer."""

import pytest

from app.api.errors import ApiError
from app.api.responses import Answer, negotiate
from app.generation.output import ANIMATED, Format

BROWSER = "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "form", "n", "answer"),
    [
        (None, None, 1, Answer("image", "png")),
        ("*/*", None, 1, Answer("image", "png")),
        ("*/*", "webp", 1, Answer("image", "webp")),
        ("*/*", None, 2, Answer("json", "png")),
        ("*/*", "jpeg", 2, Answer("json", "jpeg")),
        ("image/*", None, 1, Answer("image", "png")),
        ("image/jpeg", None, 1, Answer("image", "jpeg")),
        ("image/jpg", None, 1, Answer("image", "jpeg")),
        ("image/webp;q=0.5, image/jpeg;q=0.9", None, 1, Answer("image", "jpeg")),
        (BROWSER, None, 1, Answer("image", "webp")),
        (BROWSER, "png", 1, Answer("image", "png")),
        ("application/json", "webp", 1, Answer("json", "webp")),
        ("APPLICATION/JSON; charset=utf-8", None, 1, Answer("json", "png")),
        ("text/event-stream", None, 4, Answer("events", "png")),
        ("image/png;q=0, */*", None, 1, Answer("image", "webp")),
    ],
)
def test_the_best_of_what_can_be_sent(
    accept: str | None, form: Format | None, n: int, answer: Answer
) -> None:
    assert negotiate(accept, form, n) == answer


@pytest.mark.parametrize(
    ("accept", "form", "n"),
    [
        ("image/webp", "png", 1),
        ("image/png", None, 2),
        ("text/html", None, 1),
        ("image/gif;q=nonsense", None, 1),
        ("*/*;q=0", None, 1),
        (";;,/,", None, 1),
    ],
)
def test_nothing_that_can_be_sent(accept: str, form: Format | None, n: int) -> None:
    with pytest.raises(ApiError) as refused:
        negotiate(accept, form, n)
    assert refused.value.status_code == 406


def test_what_is_possible_is_tried_in_its_order() -> None:
    assert negotiate("*/*", None, 1, ANIMATED) == Answer("image", "webp")
    assert negotiate("image/png", None, 1, ANIMATED) == Answer("image", "png")
    with pytest.raises(ApiError):
        negotiate("image/jpeg", None, 1, ANIMATED)
