"""The first frame of a GIF, without what no pixel of it depends on."""

from __future__ import annotations

import re

MAGIC = b"GIF8"

MOST_BLOCKS = 200_000
"""As many as 16 MiB have of full ones, three times; a walk over more takes seconds."""

_BLOCK = re.compile(rb"[!,;]")
_EXTENSION, _IMAGE = b"!", b","
_CONTROL = b"!\xf9\x04"  # says which colour is transparent


def first_frame(file: bytes) -> bytes:
    """Drops comments and applications' blocks, which Pillow joins in time that grows squarely.

    What is damaged or cut short is left to the decoder. Raises ``ValueError`` for more blocks than
    any file needs.
    """
    blocks = 0
    flags = file[10] if len(file) > 10 else 0
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)  # after the palette
    head, control = file[:at], b""
    while (block := _BLOCK.search(file, at)) is not None:
        at = block.end()
        if block[0] == _IMAGE:
            return head + control + file[block.start() :]
        if block[0] != _EXTENSION:
            break
        if file[block.start() : at + 2] == _CONTROL:
            control = file[block.start() : at + 6] + b"\0"
        at += 1
        while at < len(file) and file[at]:
            at += file[at] + 1
            blocks += 1
            if blocks > MOST_BLOCKS:
                raise ValueError("too many blocks")
        at += 1
    return head
