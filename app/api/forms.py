"""The two formats of a form with pictures, from bytes to parts in memory.

``multipart/form-data`` (RFC 7578) by hand rather than by FastAPI's form models, which would write
large files to disk, know no budget while a form arrives, drop what they do not know, and take a
form that was cut for a whole one.

OpenAI's edits in JSON have the fields of the form, with the pictures in base64: ``images`` is a
list of ``{"image_url": "data:image/png;base64,…"}``, ``mask`` one of these. Gateways also send
``image``, and the base64 alone. Addresses are never fetched, as they could be anybody's.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.api.errors import ApiError, invalid, of_body

MOST_PREAMBLE = 4096
"""Bytes before the first boundary, which mail once had."""

MOST_HEADER = 16_384
"""Bytes of a part's header, in which the name of its file stands."""

_CHARSETS = {
    codecs.lookup(name).name
    for name in (
        "utf-8 ascii utf-16 utf-16le utf-16be gbk gb2312 gb18030 big5 big5hkscs shift_jis cp932 "
        "euc_jp iso2022_jp euc_kr cp949 koi8-r koi8-u tis-620 cp874 mac-roman latin-1 "
        + " ".join(f"iso8859-{number}" for number in range(2, 17) if number != 12)
        + "".join(f" cp125{digit}" for digit in range(9))
    ).split()
}
"""Those that clients write; Python has others that take a time that grows squarely."""

_EXTENDED_NAME = re.compile(rb";\s*filename\*[\d*]*\s*=\s*([^;]*)", re.IGNORECASE)
"""RFC 5987's name of a file, which is all that some clients send where it is not ASCII."""

MOST_VALUES = 100_000
"""Commas and brackets of a body: each may stand for a value that takes a hundred times its byte."""

FILES = {"images": "image", "image": "image", "image[]": "image", "mask": "mask"}
"""The fields that hold pictures, and those of the form that they stand for."""

_KEYS = ("image_url", "url", "b64_json", "data")


class FormError(ValueError):
    """What is wrong with a form. ``str()`` is a part of a sentence."""


@dataclass(slots=True)
class Part:
    """A field of the form."""

    name: str = ""
    file_name: str | None = None
    media_type: str = ""
    charset: str = "utf-8"
    data: bytearray = field(default_factory=bytearray)

    @property
    def is_file(self) -> bool:
        """By its name, or by its type where a client gives none."""
        return self.file_name is not None or self.media_type.startswith("image/")

    @property
    def chosen(self) -> bool:
        """Whether there is a file: browsers send an empty one for what was left empty."""
        return bool(self.file_name or self.data)

    def text(self) -> str:
        """Raises `FormError` for what is no text."""
        try:
            charset = codecs.lookup(self.charset).name
        except (LookupError, ValueError):
            charset = ""
        if charset not in _CHARSETS:
            raise FormError(f"is in the charset {self.charset[:40]!r}; UTF-8 is read")
        try:
            return self.data.decode(charset)
        except UnicodeDecodeError:
            shown = "UTF-8" if charset == "utf-8" else charset
            raise FormError(f"is not {shown}, as which it came") from None


class FormParser:
    """Takes a form chunk by chunk. Each method raises `FormError`."""

    def __init__(
        self, content_type: str, *, most_files: int, most_texts: int, most_text_bytes: int
    ) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise FormError("its Content-Type names no boundary")
        self._charset = options.get(b"charset", b"utf-8").decode("latin-1")
        self._limits = {True: most_files, False: most_texts}
        self._most_text_bytes = most_text_bytes
        self._first = b"--" + boundary
        self._preamble: bytearray | None = bytearray()  # None when the first boundary is found
        self._ended = False
        self._parts: list[Part] = []
        self._counts = {True: 0, False: 0}
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_header,
                    "on_header_value": self._on_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._on_data,
                    "on_end": self._end,
                },
                max_header_count=32,
                max_header_size=MOST_HEADER,
            )
        except FormParserError as error:
            raise FormError("its boundary is too long") from error

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        if self._preamble is not None:
            self._preamble += chunk
            at = self._boundary()
            if at < 0:
                if len(self._preamble) > MOST_PREAMBLE + len(self._first):
                    raise FormError("it does not begin with the boundary that its header names")
                return
            chunk, self._preamble = bytes(self._preamble[at:]), None
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            if "header size" in str(error):
                raise FormError(f"a header of a part has more than {MOST_HEADER} bytes") from error
            where = f" of {self._parts[-1].name[:80]!r}" if self._parts else ""
            raise FormError(f"a boundary or a header{where} is malformed") from error

    def close(self) -> list[Part]:
        """All parts, at the end of the body."""
        if self._preamble:
            raise FormError("it does not have the boundary that its header names")
        if self._preamble is None and not self._ended:
            raise FormError("the form ends before its closing boundary")
        return self._parts

    def _boundary(self) -> int:
        """Where the first one is, at the beginning of a line; -1 where it has not come yet."""
        assert self._preamble is not None
        if self._preamble.startswith(self._first):
            return 0
        at = self._preamble.find(b"\r\n" + self._first)
        return at if at < 0 else at + 2

    def _begin(self) -> None:
        self._headers = {}

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        kind, of_kind = parse_options_header(self._headers.get(b"content-type", b""))
        if b"name" not in options:
            raise FormError("a part has no name in its Content-Disposition")
        file_name = options.get(b"filename")
        if file_name is None and (extended := _EXTENDED_NAME.search(disposition)) is not None:
            file_name = extended[1]
        charset = of_kind.get(b"charset")
        part = Part(
            name=options[b"name"].decode(errors="replace"),
            file_name=None if file_name is None else file_name.decode(errors="replace"),
            media_type=kind.decode("latin-1").lower(),
            charset=self._charset if charset is None else charset.decode("latin-1"),
        )
        self._counts[part.is_file] += 1
        most = self._limits[part.is_file]
        if self._counts[part.is_file] > most:
            what = "files" if part.is_file else "texts"
            raise FormError(f"it has more than {most} {what}")
        self._parts.append(part)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        part = self._parts[-1]
        part.data += memoryview(data)[start:end]
        if not part.is_file and len(part.data) > self._most_text_bytes:
            raise FormError(f"{part.name[:80]!r} has more than {self._most_text_bytes} bytes")

    def _end(self) -> None:
        self._ended = True


@dataclass(frozen=True, slots=True)
class JsonForm:
    """What was sent."""

    fields: Mapping[str, Any]
    files: Mapping[str, tuple[bytes, ...]]


def read_json(body: bytes | bytearray) -> JsonForm:
    """Takes a while for a large body. Raises `ApiError`."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ApiError(400, "the body has too many values", code="invalid_json")
    try:
        found = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise of_body(error) from error
    if not isinstance(found, dict):
        raise ApiError(400, "a JSON object is needed", code="invalid_body")
    files: dict[str, tuple[bytes, ...]] = {}
    for name, stands_for in FILES.items():
        given = found.pop(name, None)
        if given is None:
            continue
        if stands_for in files:
            raise invalid(name, "is given beside another field for the same")
        if not isinstance(given, list):
            files[stands_for] = (_decoded(name, given),)
        elif given:
            places = [name if len(given) == 1 else f"{name}.{k}" for k in range(len(given))]
            files[stands_for] = tuple(map(_decoded, places, given))
    return JsonForm(found, files)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is given more than once")
    return values


def _decoded(name: str, given: object) -> bytes:
    """The file that a value holds. Raises `ApiError`."""
    if isinstance(given, dict):
        if given.get("file_id") is not None:
            raise invalid(name, "no files are kept here to be named by file_id; send a data: URL")
        known = [key for key in _KEYS if given.get(key) is not None]
        if len(known) != 1 or given.keys() - {*_KEYS, "file_id"}:
            raise invalid(name, 'should be an object with "image_url", a data: URL')
        given = given[known[0]]
        if isinstance(given, dict):
            given = given.get("url")
    if not isinstance(given, str):
        raise invalid(name, "should be a data: URL, or base64")
    if given[:8].lower().startswith(("http:", "https:", "file:", "ftp:", "gs:", "s3:")):
        raise invalid(name, "addresses are not fetched; send the picture as a data: URL")
    if given[:5].lower() == "data:":
        head, comma, given = given.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise invalid(
                name, "is a data: URL without base64: data:image/png;base64,… is accepted"
            )
    try:
        text = given.encode("ascii").translate(_STANDARD, b" \t\r\n")
        return base64.b64decode(
            text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4), validate=True
        )
    except (UnicodeEncodeError, binascii.Error):
        raise invalid(name, "is not base64") from None


_STANDARD = bytes.maketrans(b"-_", b"+/")
