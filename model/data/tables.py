"""Parquet files of images, as Hugging Face's datasets writes them.

The column of images is a struct of ``bytes`` and ``path``, or plain bytes; captions are texts, or
classes whose names the file's metadata has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.data.pictures import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SUFFIX = ".parquet"
CAPTION = ("caption", "text", "prompt", "label")
IMAGE = ("image", "img", "picture", "jpg", "png")
TOGETHER = 32  # rows in memory


def read_captions(path: Path) -> list[str]:
    """Of each row, in order; empty where there is none. Raises `DataError`."""
    with _opened(path) as table:
        names = table.schema_arrow.names
        column = next((name for name in CAPTION if name in names), None)
        if column is None:
            raise DataError(
                f"{path}: has the columns {', '.join(names)}; one of {', '.join(CAPTION)} is needed"
            )
        _image_column(table, path)
        values = table.read(columns=[column]).column(column).to_pylist()
        classes = _classes(table, column)
    if classes:
        values = [classes[value] if value in range(len(classes)) else None for value in values]
    if any(not isinstance(value, str | None) for value in values):
        raise DataError(f"{path}: the column {column} is not of texts, nor of classes with names")
    return [" ".join((value or "").split()) for value in values]


def read_images(path: Path) -> Iterator[bytes]:
    """The file of each row, in order; empty where there is none. Raises `DataError`."""
    with _opened(path) as table:
        column = _image_column(table, path)
        for batch in table.iter_batches(batch_size=TOGETHER, columns=[column]):
            for value in batch.column(0).to_pylist():
                yield _content(value, path.parent)


def _content(value: Any, folder: Path) -> bytes:
    if isinstance(value, bytes):
        return value
    value = value or {}
    if value.get("bytes"):
        return bytes(value["bytes"])
    beside = folder / (value.get("path") or "")
    return beside.read_bytes() if beside.is_file() else b""


def _image_column(table: ParquetFile, path: Path) -> str:
    import pyarrow as arrow

    for name in sorted(table.schema_arrow.names, key=lambda name: name not in IMAGE):
        kind = table.schema_arrow.field(name).type
        if arrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return str(name)
        if arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind):
            return str(name)
    columns = ", ".join(f"{field.name} ({field.type})" for field in table.schema_arrow)
    raise DataError(f"{path}: no column of images, as bytes, among {columns}")


def _classes(table: ParquetFile, column: str) -> list[str]:
    """The names of a column's classes; none where it has no classes."""
    try:
        metadata = json.loads((table.schema_arrow.metadata or {})[b"huggingface"])
        return [str(name) for name in metadata["info"]["features"][column]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


@contextmanager
def _opened(path: Path) -> Iterator[ParquetFile]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        install = "pip install 'tessera-serve[train]'"
        raise DataError(f"{path}: reading it needs pyarrow: {install}") from error
    try:
        with ParquetFile(path) as table:
            yield table
    except (ArrowException, OSError) as error:
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be read: {text}") from error
