"""How the service logs: lines for people, or JSON for machines, each with its request's id."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from logging import LogRecord
from typing import Literal

LogFormat = Literal["text", "json"]

request_id: ContextVar[str] = ContextVar("request_id")
"""The id of the request that the current task answers; every line logged on its behalf has it."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def configure(form: LogFormat, level: str) -> None:
    """Sends every log of the process to the error stream. Replaces what was configured."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Tessera's own access log has the request id, the route and the outcome.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # each request of a download


def extras(record: LogRecord) -> dict[str, object]:
    """What the record has besides the standard attributes: ``extra``, and the request's id."""
    found = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    current = request_id.get(None)
    return found if current is None else {"request_id": current, **found}


# By hand: python-json-logger would be as many lines of settings, for one of the two kinds.
class JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """Time, level, message, and the extras as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = _one_line(record.message)
        pairs = [f"{key}={_one_word(str(value))}" for key, value in extras(record).items()]
        return " ".join([super().formatMessage(record), *pairs])


def _one_line(text: str) -> str:
    """Without line ends and escape codes, with which a client could forge lines."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _one_word(text: str) -> str:
    """In quotes where it could be taken for several pairs."""
    plain = text.isprintable() and not set(text) & set(" \"'=")
    return text if plain else repr(text)
