"""A JPEG without what no pixel depends on, and the little of that which does matter."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAGIC = b"\xff\xd8\xff"

MOST_SEGMENTS = 4096
"""Files have about ten, and some hundred with profiles and previews in them."""

# Neither stuffed zeros, nor restarts, nor fill bytes, which all are part of a scan.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_END, _SCAN, _COMMENT = 0xD9, 0xDA, 0xFE
_JFIF, _APP1, _APP2, _ADOBE, _LAST_APP = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"


@dataclass(frozen=True, slots=True)
class Jpeg:
    """What is left."""

    file: bytes
    exif: bytes
    profile_parts: tuple[bytes, ...]
    scans: int

    def profile(self, most: int) -> bytes:
        """The ICC profile; nothing where a part is missing, or it has more bytes than that."""
        parts = {part[0]: part[2:] for part in self.profile_parts if len(part) >= 2}
        count = self.profile_parts[0][1] if parts else 0
        whole = sorted(parts) == list(range(1, count + 1))
        size = sum(map(len, parts.values()))
        return (
            b"".join(parts[number] for number in sorted(parts)) if whole and size <= most else b""
        )


def read(file: bytes) -> Jpeg:
    """Walks from marker to marker as a decoder does, to the end of the picture.

    Behind that end a phone may have put a video. What is damaged is left to the decoder. Raises
    ``ValueError`` for a file of more segments than any needs.
    """
    kept, exif, parts, scans = bytearray(file[:2]), b"", list[bytes](), 0
    at, rest, end_of_picture, segments = 2, 0, len(file), 0
    while (marker := _MARKER.search(file, at)) is not None:
        code = marker[1][0]
        if code == _END:
            end_of_picture = marker.end()
            break
        segments += 1
        if segments > MOST_SEGMENTS:
            raise ValueError("too many segments")
        end = marker.end() + int.from_bytes(file[marker.end() : marker.end() + 2])
        if end < marker.end() + 2 or end > len(file):
            break
        body = memoryview(file)[marker.end() + 2 : end]
        if code == _SCAN:
            rest = rest or marker.start()
            scans += 1
        elif not scans:
            if code == _APP1 and not exif and body[: len(_EXIF)] == _EXIF:
                exif = bytes(body[len(_EXIF) :])
            elif code == _APP2 and body[: len(_ICC)] == _ICC:
                parts.append(bytes(body[len(_ICC) :]))
            elif code in (_JFIF, _ADOBE) or not (_JFIF <= code <= _LAST_APP or code == _COMMENT):
                kept += memoryview(file)[marker.start() : end]
        at = end
    kept += memoryview(file)[rest or at : end_of_picture]
    return Jpeg(bytes(kept), exif, tuple(parts), scans)
