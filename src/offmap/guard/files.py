"""Verdicts on files: any number of them, in bounded memory, and nothing done twice."""

from __future__ import annotations

import os
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from offmap._utils.addresses import is_address
from offmap._utils.arguments import whole
from offmap._utils.files import expanded
from offmap._utils.percent import at_most, percent
from offmap._utils.progress import progress
from offmap.data import (
    OwnTransform,
    Skipped,
    Span,
    behind,
    check_inputs,
    read_rows,
    skipped_in_words,
    spans_of,
)
from offmap.errors import ArgumentError, StoreError
from offmap.guard._inputs import image_shape
from offmap.guard._partial import Partial, Row
from offmap.guard._record import identity_of
from offmap.guard.guard import Guard
from offmap.guard.log import Log, check_goes_on
from offmap.guard.reading import ACCEPTED, COLUMNS, REASON, Reading, columns_of, rows_of

SUFFIXES = (".parquet", ".csv", ".jsonl")
_TYPES = dict.fromkeys((*COLUMNS, REASON), pa.string()) | {
    **{"label": pa.int64(), "score": pa.float64(), "p_value": pa.float64()},
    **{"is_ood": pa.bool_(), ACCEPTED: pa.bool_()},
}
T = TypeVar("T")

# Reads images and scores them, elsewhere, and gives the rows of verdicts in their order.
Spread = Callable[[Reading, Iterator[Span]], Iterable[list[Row]]]


@dataclass
class Summary:
    """Counts of the verdicts on files.

    Args:
        alarm_rate: of the guard.
        promise: of the guard.
        images: files in all.
        unknown: called unknown.
        unreadable: could not be read.
        left_out: what lies in the folders and is no image.
        extremes: the rows with the highest scores, and with the lowest.
    """

    alarm_rate: float
    promise: str = ""
    images: int = 0
    unknown: int = 0
    unreadable: int = 0
    left_out: list[Skipped] = field(default_factory=list)
    extremes: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, row: Row, keep: int) -> None:
        """Count one row, and keep it if it is among the most or least known."""
        self.images += 1
        if row["is_ood"] is None:
            self.unreadable += 1
            return
        self.unknown += row["is_ood"]
        if row["score"] is None:  # not finite
            return
        for name, sign in (("least known", -1), ("most known", 1)):
            rows = self.extremes.setdefault(name, [])
            # Most rows are no extremes: one comparison tells.
            if len(rows) < keep or (rows and sign * row["score"] < sign * rows[-1]["score"]):
                insort(rows, row, key=lambda r: sign * r["score"])
                del rows[keep:]

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
        note = skipped_in_words("the inputs", (), self.left_out)
        rate, share = percent(self.alarm_rate, 1), at_most(self.false_discoveries)
        return (
            f"{self.images:,} images: {self.unknown:,} unknown ({self.share:.1%}), "
            f"{self.unreadable:,} unreadable. At an alarm rate of {rate}, at most "
            f"{share} of those called unknown are expected to be known."
            + (f"\n{self.promise}" if self.promise else "")
            + (f"\n{note}" if note else "")
        )


def score_files(
    guard: Guard,
    inputs: Sequence[str],
    out: str | Path,
    *,
    shape: tuple[int, int, int] | None = None,
    transform: str | None = None,
    batch_size: int = 256,
    keep: int = 24,
    log: str | Path | None = None,
    explain: bool = False,
    spread: Spread | None = None,
    show_progress: bool | None = None,
) -> Summary:
    """Write one row a file, in order: its answer, score and p-value, or why it cannot be read.

    Rows are kept beside ``out`` as they come; after an interruption the same call continues with
    the next file and scores none twice. ``out`` itself appears when all is done.

    Args:
        guard: calibrated.
        inputs: files, folders, patterns, Parquet files or ``-``: see ``offmap.data.read_images``.
            For a guard over text or features, ``.jsonl`` and Parquet files with columns of
            ``input_ids`` and what belongs to them, or of features.
        out: ``.parquet``, ``.csv`` or ``.jsonl``.
        shape: channels, height and width of the network's input; by default what the guard was
            fitted on. Images are brought to it as those were.
        transform: ``file.py:NAME``, of the function that made those; it makes these as well.
        batch_size: images at a time.
        keep: rows that the summary keeps of the most and of the least known; 0 for none.
        log: a :class:`offmap.guard.Log` that the verdicts are added to, each once: what a crash
            left out of it is not added later.
        explain: add a column ``reason``, of :func:`offmap.guard.explained`.
        spread: reads and scores the images in the place of this process: see
            :func:`offmap.scale.score`.
        show_progress: ``None`` shows a bar on a terminal.

    Raises:
        NotFittedError: the guard has no threshold.
        ArgumentError: a suffix that is not written, no known input shape, or another transform
            than that of the images that the guard was fitted on.
        DataNotFoundError: one of the inputs is not there.
        StoreError: an unfinished run of another guard or other images stands beside ``out``, or
            another process is writing one.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise ArgumentError(f"{out}: verdicts are written as {', '.join(SUFFIXES)}")
    if log is not None and Path(log).resolve() == out.resolve():
        raise ArgumentError(f"{log} is where the verdicts go: give the log another name")
    whole("batch_size", batch_size)
    whole("keep", keep, 0)
    summary = Summary(guard.calibration.alarm_rate, guard.calibration.promise)
    # Rows of tokens or features have no shape of images.
    of_images = shape or not (guard.input_names or len(guard.input_shape or (0, 0, 0)) == 1)
    shape = shape or (image_shape(guard) if of_images else None)
    if spread is not None and shape is None:
        raise ArgumentError(
            "rows of text or features are scored by one process: leave --engine and --workers out"
        )
    own = None if transform is None else OwnTransform.of(transform)
    guard.check_transform(own)
    check_inputs(inputs)
    addresses = [  # as they are called from any working directory
        spec if spec == "-" or is_address(spec) else os.path.abspath(expanded(spec))
        for spec in inputs
    ]
    run: Row = {"inputs": addresses, "guard": identity_of(guard), "shape": shape}
    run |= {"resize": guard.input_resize, "explain": explain}
    with closing(Partial(out, run)) as partial, ExitStack() as stack:
        writer = None
        if log is not None:
            check_goes_on(log, guard)
            writer = stack.enter_context(Log(log, guard))
        with progress("score", None, show=show_progress) as advance:
            for row in partial.rows():
                summary.add(row, keep)
            advance(summary.images)
            passed = (row["path"] for row in partial.rows())
            if shape is None:
                items = read_rows(inputs, guard.input_names, passed=passed, shape=guard.input_shape)
                samples = _of_that_run(partial, items)
                chunks = iter(lambda: list(islice(samples, batch_size)), [])
                batches: Iterable[list[Row]] = (
                    rows_of(guard, chunk, images=False, explain=explain) for chunk in chunks
                )
            else:
                reading = Reading(shape, guard.input_resize, transform, batch_size, explain)
                spans = _of_that_run(partial, behind(spans_of(inputs, summary.left_out), passed))
                batches = spread(reading, spans) if spread else reading.rows(guard, spans)
            for rows in batches:
                partial.append(rows)
                if writer is not None:
                    writer.add_rows(rows)
                for row in rows:
                    summary.add(row, keep)
                advance(len(rows))
        if not summary.images:
            note = skipped_in_words("them", (), summary.left_out)
            raise ArgumentError(
                "; ".join(filter(None, [f"there are no images in {', '.join(inputs)}", note]))
            )
        columns = columns_of(guard, explain=explain)
        partial.finish(out, pa.schema([(name, _TYPES[name]) for name in columns]))
    return summary


def _of_that_run(partial: Partial, items: Iterable[T]) -> Iterator[T]:
    """The inputs without a row yet, refused where those before are not the inputs of the rows."""
    try:
        yield from items
    except ArgumentError as error:
        raise StoreError(
            f"{partial.path} holds an unfinished run: {error}. Give those of that run, or delete "
            "the file"
        ) from error
