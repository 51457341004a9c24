"""Rows of a log of verdicts, from where the last reading ended."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Self

import pyarrow.parquet as pq

from offmap.errors import ArgumentError, DataNotFoundError, StoreError
from offmap.guard._state import Place

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".csv", ".parquet")
_ROWS = 4096
_BYTES = 1 << 20
# In the first line of a log, which no other has. Within a text JSON would escape the quotes.
_HEADER = b'"certified": {'
_ROTATED = re.compile(r"\.jsonl[.-][\d.-]+$")


def rows_of(
    path: Path,
    read: Mapping[str, Place],
    opened: Callable[[], AbstractContextManager[BinaryIO]] | None = None,
) -> Iterator[tuple[Row | None, str, Place]]:
    """Rows of a log, each with the hash of its first and how far it has been read with this row.

    A torn row is ``None``. A last line without an end is still being written, and is not given.

    Args:
        path: ``.jsonl`` of a :class:`offmap.guard.Log` or of ``offmap score``, or its ``.csv`` or
            ``.parquet``.
        read: how far logs have been read, by that hash.
        opened: opens a log of lines; by default for this look alone.

    Raises:
        DataNotFoundError: it is not there.
        ArgumentError: it has another suffix.
        StoreError: it does not begin with what was read of it, or cannot be read.
    """
    if _kind(path) not in SUFFIXES:
        raise ArgumentError(f"{path}: a log of verdicts is one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataNotFoundError(f"{path} is not there: give what `offmap score --log` wrote")
    if _kind(path) == ".jsonl":
        with path.open("rb") if opened is None else opened() as file:
            yield from _lines(file, path, read)
        return
    try:
        yield from _table(path, read)
    except (OSError, ValueError, KeyError) as error:  # of Arrow, too
        raise StoreError(f"{path} cannot be read: {error}") from error


def _kind(path: Path) -> str:
    """The suffix, before the number or date that a rotation puts behind it."""
    return ".jsonl" if _ROTATED.search(path.name) else path.suffix


class Tail:
    """A log as it grows; one that is moved away is read to its end, and then what took its place.

    Without a log under the path, as just after it was moved, what was open is read on.

    Args:
        path: of the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None

    def rows(self, read: Mapping[str, Place]) -> Iterator[tuple[Row | None, str, Place]]:
        """The rows added since the last reading, as :func:`rows_of` gives them."""
        if self._path.suffix != ".jsonl":  # a table never grows
            yield from rows_of(self._path, read)
            return
        if self._file is not None:
            try:  # asked first: no more is added to a file that has been replaced
                replaced = not os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
            except FileNotFoundError:
                replaced = False
            with self._reader(self._file) as file:
                yield from _lines(file, self._path, read)
            if not replaced:
                return
            self.close()
        yield from rows_of(self._path, read, self._opened)

    def _opened(self) -> AbstractContextManager[BinaryIO]:
        self._file = self._path.open("rb", buffering=0)
        return self._reader(self._file)

    @staticmethod
    def _reader(file: io.FileIO) -> BinaryIO:
        """A reader with an empty buffer: the file may have been emptied since the last one."""
        return open(file.fileno(), "rb", closefd=False)

    def close(self) -> None:
        """Read no more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lines(
    file: BinaryIO, path: Path, read: Mapping[str, Place]
) -> Iterator[tuple[Row | None, str, Place]]:
    file.seek(0)
    first = file.readline()
    if not first.endswith(b"\n"):
        return
    log = _hash(first)
    place = read.get(log, Place())
    position = place.position
    if position > file.seek(0, 2):
        raise _another(path, f"is shorter than the {position:,} bytes")
    file.seek(0)
    digest = None if _HEADER in first else hashlib.sha256()
    if digest is not None:
        for start in range(0, position, _BYTES):
            digest.update(file.read(min(_BYTES, position - start)))
        if position and place.digest != digest.hexdigest():
            raise _another(path, f"does not begin with the {position:,} bytes")
    file.seek(position)
    for line in iter(file.readline, b""):
        if not line.endswith(b"\n"):
            return
        try:
            row = _parsed(line)
        except ValueError as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        if digest is not None:
            digest.update(line)
        yield row, log, Place(file.tell(), "" if digest is None else digest.hexdigest())


def _parsed(line: bytes) -> Row | None:
    """What a line says of the guard or of a sample, if it is whole and says that.

    Raises:
        ValueError: a p-value or a label that is none.
    """
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    return row if "certified" in row else _verdict_row(row) if "is_ood" in row else None


def _verdict_row(row: Row) -> Row:
    """A row of verdicts as ``offmap score`` names its columns, of which a table may lack some.

    A table of :class:`offmap.scale.Scorer` calls the p-value ``p``: NaN of what cannot be read, or
    nothing, which pandas writes in its place. Beside a missing label, pandas makes floats of all.

    Raises:
        ValueError: a p-value or a label that is none.
    """
    p_value = row.get("p_value", row.get("p"))
    if not isinstance(p_value, int | float | None):
        raise ValueError(f"a p-value is a number, and not {p_value!r}")
    of_scorer = "p" in row and "p_value" not in row
    if of_scorer if p_value is None else math.isnan(p_value):
        return row | {"label": None, "p_value": None, "is_ood": None}
    label = row.get("label")
    if isinstance(label, float):
        label = None if math.isnan(label) else int(label) if label.is_integer() else label
    if not isinstance(label, int | None):
        raise ValueError(f"a label is a whole number, and not {label!r}")
    return row | {"label": label, "p_value": p_value}


def _table(path: Path, read: Mapping[str, Place]) -> Iterator[tuple[Row | None, str, Place]]:
    rows = _plain_rows(path)
    first = next(rows, None)
    if first is None:
        return
    if "is_ood" not in first:
        raise StoreError(f"{path} has no column is_ood, and so no verdicts: give a table with one")
    log, digest = _hash(repr(first).encode()), hashlib.sha256()
    place = read.get(log, Place())
    count = 0
    for count, row in enumerate(chain([first], rows), 1):
        digest.update(repr(row).encode())
        if count == place.position and place.digest != digest.hexdigest():
            raise _another(path, f"does not begin with the {count:,} rows")
        if count > place.position:
            row.pop("certified", None)  # only a line of a log says what its guard certifies
            yield _verdict_row(row), log, Place(count, digest.hexdigest())
    if count < place.position:
        raise _another(path, f"is shorter than the {place.position:,} rows")


def _another(path: Path, why: str) -> StoreError:
    """The error that a file is another than the one that was read under this first row."""
    return StoreError(
        f"{path} {why} that were read of it: a log is only added to, and verdicts that were "
        "written anew are another stream: give the one that was read, or begin with another --state"
    )


def _plain_rows(path: Path) -> Iterator[Row]:
    """The rows of a table in plain values; those of a .csv are texts, and are read as such."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(_ROWS):
                yield from batch.to_pylist()
        return
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write its mark
        for row in csv.DictReader(file):
            plain: Row = {name: value or None for name, value in row.items()}
            if (text := plain.get("is_ood")) is not None:
                # Python, Arrow and spreadsheets write True, true and TRUE.
                if text.lower() not in ("true", "false"):
                    raise ValueError(f"is_ood is True or False, and not {text!r}")
                plain["is_ood"] = text.lower() == "true"
            for name in ("p_value", "p"):
                if plain.get(name) is not None:
                    plain[name] = float(plain[name])
            if plain.get("label") is not None:
                plain["label"] = int(plain["label"].removesuffix(".0"))
            yield plain


def _hash(first: bytes) -> str:
    return hashlib.sha256(first).hexdigest()[:16]
