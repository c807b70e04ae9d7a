"""Which of the three kinds of answer a client wants: a picture, JSON, or events as they happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.api.errors import ApiError, quoted
from app.pictures import MEDIA_TYPES, Format

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """The kind of an answer, and the format of the pictures in it."""

    kind: Literal["picture", "json", "events"]
    format: Format


@dataclass(frozen=True, slots=True)
class _Range:
    """One entry of an Accept header (RFC 9110, 12.5.1)."""

    type: str
    subtype: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """How exactly it names a type: 2 in full, 1 for ``image/*``, 0 for ``*/*``; −1 not."""
        main, _, sub = media_type.partition("/")
        if (self.type, self.subtype) == (main, sub):
            return 2
        if (self.type, self.subtype) == (main, "*"):
            return 1
        return 0 if (self.type, self.subtype) == ("*", "*") else -1


def negotiate(
    accept: str | None,
    format: Format | None,  # noqa: A002 - the field's name
    n: int,
    possible: Sequence[Format] = tuple(MEDIA_TYPES),
) -> Answer:
    """Picks what the client likes best among what can be sent.

    ``format``, where it is given, decides the format of pictures, else one that is ``possible``.
    ``*/*`` is the picture for one, JSON for several, which no picture format holds. Raises
    `ApiError` (406).
    """
    formats = (format,) if format else possible
    offers: dict[str, Answer] = {}
    if n == 1:
        offers |= {MEDIA_TYPES[each]: Answer("picture", each) for each in formats}
    offers |= {JSON: Answer("json", formats[0]), EVENTS: Answer("events", formats[0])}

    ranges = _parse(accept or "*/*")
    best = max(offers, key=lambda offer: _quality(ranges, offer))  # the first of equals
    if _quality(ranges, best) <= 0:
        message = f"Accept: {quoted(accept)} was given, this request can be answered with "
        raise ApiError(406, message + ", ".join(offers), code="not_acceptable", param="Accept")
    return offers[best]


def _quality(ranges: list[_Range], media_type: str) -> float:
    """What the most specific range that covers the type says of it; 0 if none does."""
    specificity, quality = max(
        ((each.specificity(media_type), each.quality) for each in ranges), default=(-1, 0.0)
    )
    return quality if specificity >= 0 else 0.0


def _parse(accept: str) -> list[_Range]:
    ranges = []
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        main, _, sub = media_type.partition("/")
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            ranges.append(_Range(main, sub, float(quality)))
        except ValueError:
            continue  # an unreadable entry accepts nothing
    return ranges
