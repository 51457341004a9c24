"""Verdicts on files: any number of them, in bounded memory, and nothing done twice."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from offmap.data import Skipped, read_images
from offmap.errors import ArgumentError, DataError, DataNotFoundError, StoreError
from offmap.files import atomic
from offmap.guard import Guard
from offmap.progress import progress

COLUMNS = ("path", "answer", "label", "score", "p_value", "is_ood", "error")
SUFFIXES = (".parquet", ".csv", ".jsonl")
_TYPES = (pa.string(), pa.string(), pa.int64(), pa.float64(), pa.float64(), pa.bool_(), pa.string())
_CHUNK = 4096

Row = dict[str, Any]


@dataclass
class Summary:
    """What was found in the files.

    Args:
        images: files seen.
        unknown: called unknown.
        unreadable: could not be read.
        alarm_rate: of the guard.
    """

    alarm_rate: float
    images: int = 0
    unknown: int = 0
    unreadable: int = 0
    extremes: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, row: Row, keep: int) -> None:
        """Count one row, and keep it if it is among the most or least known."""
        self.images += 1
        if row["error"]:
            self.unreadable += 1
            return
        self.unknown += row["is_ood"]
        for name, sign in (("least known", -1), ("most known", 1)):
            kept = [*self.extremes.get(name, []), row]
            self.extremes[name] = sorted(kept, key=lambda r: sign * r["score"])[:keep]

    @property
    def share(self) -> float:
        """Share of the readable files called unknown."""
        return self.unknown / max(self.images - self.unreadable, 1)

    @property
    def false_discoveries(self) -> float:
        """An upper estimate of the share of known images among those called unknown.

        If all files were known, ``alarm_rate`` of them would be called unknown.
        """
        expected = self.alarm_rate * (self.images - self.unreadable)
        return min(1.0, expected / self.unknown) if self.unknown else 0.0

    def __str__(self) -> str:
        return (
            f"{self.images:,} images: {self.unknown:,} unknown ({self.share:.1%}), "
            f"{self.unreadable:,} unreadable. At an alarm rate of {self.alarm_rate:.1%}, at most "
            f"{self.false_discoveries:.0%} of those called unknown are expected to be known."
        )


def score_files(
    guard: Guard,
    inputs: Sequence[str],
    out: str | Path,
    *,
    shape: tuple[int, int, int] | None = None,
    batch_size: int = 256,
    keep: int = 24,
    show_progress: bool | None = None,
) -> Summary:
    """Write one row a file, in order: its answer, score and p-value, or why it cannot be read.

    Rows are kept beside ``out`` as they come; interrupted, the same call goes on behind the last
    one and scores nothing twice. ``out`` itself appears when all is done.

    Args:
        guard: calibrated.
        inputs: files, folders, patterns, Parquet files or ``-``: see ``offmap.data.read_images``.
        out: ``.parquet``, ``.csv`` or ``.jsonl``.
        shape: channels, height and width of the network's input; by default what the guard was
            fitted on.
        batch_size: images at a time.
        keep: rows that the summary keeps of the most and of the least known.
        show_progress: ``None`` shows a bar on a terminal.

    Raises:
        NotFittedError: the guard has no threshold.
        ArgumentError: a suffix that is not written, or no known input shape.
        StoreError: an unfinished run of another guard or other images stands beside ``out``.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise ArgumentError(f"{out}: verdicts are written as {', '.join(SUFFIXES)}")
    summary = Summary(guard.calibration.alarm_rate)
    shape = shape or guard.input_shape
    if shape is None:
        raise ArgumentError("the guard does not know the size of its images: give shape (c, h, w)")
    partial = _Partial(
        out, {"inputs": list(inputs), "guard": repr(guard.explain()), "shape": shape}
    )
    with progress("score", None, show=show_progress) as advance:
        for row in partial.rows():
            summary.add(row, keep)
        advance(summary.images)
        images = partial.going_on(inputs, shape)
        while batch := list(islice(images, batch_size)):
            rows = _verdicts(guard, batch)
            partial.append(rows)
            for row in rows:
                summary.add(row, keep)
            advance(len(rows))
    if not summary.images:
        raise ArgumentError(f"there are no images in {', '.join(inputs)}")
    partial.finish()
    return summary


def _verdicts(guard: Guard, batch: list[Any]) -> list[Row]:
    rows = [dict.fromkeys(COLUMNS) | {"path": name} for name, _ in batch]
    good = [i for i, (_, image) in enumerate(batch) if not isinstance(image, Skipped)]
    for row, (_, image) in zip(rows, batch, strict=True):
        row["error"] = image.reason if isinstance(image, Skipped) else None
    if good:
        found = guard(torch.stack([batch[i][1] for i in good])).to_dict()
        for column, values in found.items():
            for i, value in zip(good, values, strict=True):
                rows[i][column] = value
    return rows


class _Partial:
    """The rows of an unfinished run: one JSON line each, behind a line that says of what run."""

    def __init__(self, out: Path, run: Row) -> None:
        self.out = out
        self.path = out.with_name(f".{out.name}.partial")
        self.run = json.loads(json.dumps(run))
        out.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._check()
        else:
            self.append([self.run])

    def _check(self) -> None:
        """Cut off a line that was torn, and refuse rows of another run."""
        content = self.path.read_bytes()
        os.truncate(self.path, content.rfind(b"\n") + 1)
        first = content.partition(b"\n")[0]
        if not first or json.loads(first) != self.run:
            raise StoreError(
                f"{self.path} holds an unfinished run of another guard or other inputs: finish "
                "that one, or delete the file"
            )

    def append(self, lines: Iterable[Row]) -> None:
        with self.path.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def going_on(self, inputs: Sequence[str], shape: tuple[int, int, int]) -> Iterator[Any]:
        """The images behind those that have their rows."""
        try:
            yield from read_images(inputs, shape, passed=(row["path"] for row in self.rows()))
        except DataNotFoundError:
            raise
        except DataError as error:
            raise StoreError(
                f"{self.path} holds an unfinished run: {error}. Give those of that run, or delete "
                "the file"
            ) from error

    def rows(self) -> Iterator[Row]:
        """The rows so far."""
        with self.path.open() as file:
            yield from (json.loads(line) for line in islice(file, 1, None))

    def finish(self) -> None:
        """Give the rows their final form and name."""
        with atomic(self.out) as temporary:
            {".jsonl": _to_jsonl, ".csv": _to_csv, ".parquet": _to_parquet}[self.out.suffix](
                self.rows(), temporary
            )
        self.path.unlink()


def _to_jsonl(rows: Iterator[Row], path: Path) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _to_csv(rows: Iterator[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _to_parquet(rows: Iterator[Row], path: Path) -> None:
    schema = pa.schema(list(zip(COLUMNS, _TYPES, strict=True)))
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(rows, _CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema))
