"""Rows of a run that may be interrupted, kept beside the file that they will become."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from offmap._utils.files import as_text, atomic, claimed
from offmap.errors import StoreError

Row = dict[str, Any]
_CHUNK = 4096
_ENCODER, _DECODER = msgspec.json.Encoder(), msgspec.json.Decoder()


class Partial:
    """One JSON line a row, after a line that identifies the run; one process at a time has it.

    Args:
        out: the file that the rows will become.
        run: what tells this run from others, as JSON keeps it.

    Raises:
        StoreError: there are rows of another run, or another process is writing some.
    """

    def __init__(self, out: Path, run: Row) -> None:
        self.path = out.with_name(f".{out.name}.partial")
        out.parent.mkdir(parents=True, exist_ok=True)
        self._file = claimed(self.path)
        try:
            self._begin(json.loads(json.dumps(run)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _begin(self, run: Row) -> None:
        """Cut off a line that was torn; refuse rows of another run."""
        with self.path.open("rb") as file:
            first = file.readline()
            size = len(first) + sum(len(line) for line in file if line.endswith(b"\n"))
        before = None
        with suppress(ValueError):  # zeros, which a crash of the machine leaves
            before = json.loads(first)
        if first.endswith(b"\n") and before == run:
            os.truncate(self.path, size)
            return
        if size > len(first):
            raise StoreError(
                f"{self.path} holds an unfinished run of another guard or other inputs: finish "
                "that one, or delete the file"
            )
        os.truncate(self.path, 0)
        self.append([run])

    def append(self, lines: Iterable[Row]) -> None:
        """Add rows; they are on disk when this returns."""
        for line in lines:
            try:
                text = _ENCODER.encode(line).decode()
            except UnicodeEncodeError:  # half of a surrogate, of a path that is not UTF-8
                text = json.dumps(line)
            self._file.write(text + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def rows(self) -> Iterator[Row]:
        """The rows so far."""
        with self.path.open("rb") as file:
            for line in islice(file, 1, None):
                try:
                    yield _DECODER.decode(line)
                except msgspec.DecodeError:  # that half, again
                    yield json.loads(line)

    def finish(self, out: Path, schema: pa.Schema) -> None:
        """Write the rows in their final form under their final name, and delete this file.

        Args:
            out: ``.parquet``, ``.csv`` or ``.jsonl``.
            schema: the columns, with their types in Parquet.
        """
        # Paths need not be UTF-8, and the files do.
        rows = (row | {"path": as_text(row["path"])} for row in self.rows())
        with atomic(out) as temporary:
            if out.suffix == ".jsonl":
                with temporary.open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
            elif out.suffix == ".csv":
                with temporary.open("w", newline="", encoding="utf-8") as file:
                    table = csv.DictWriter(file, schema.names)
                    table.writeheader()
                    table.writerows(rows)
            else:
                with pq.ParquetWriter(temporary, schema) as writer:
                    while chunk := list(islice(rows, _CHUNK)):
                        writer.write_table(pa.Table.from_pylist(chunk, schema))
        self.path.unlink()
