"""Verdicts on files by Ray: blocks of whole batches go out, and rows come back in their order."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from offmap._utils.arguments import whole
from offmap.data import Span, blocks_of
from offmap.guard.files import Summary, score_files
from offmap.guard.reading import Reading
from offmap.scale._pool import Pool
from offmap.scale._session import gpus_of, session, versions
from offmap.scale.scorer import Scorer

Row = dict[str, Any]
_BATCHES = 4  # of a block: the work lost with a worker, and the rows written at once


class Reader:
    """Reads and scores blocks, in a process of its own."""

    def __init__(self, scorer: Scorer, folder: str) -> None:
        self.scorer = scorer
        with suppress(OSError):  # of relative paths, and modules; another machine may lack it
            os.chdir(folder)
        if folder not in sys.path:
            sys.path.append(folder)

    def versions(self) -> dict[str, str]:
        """The versions that results depend on, in this worker."""
        return versions()

    def close(self) -> None:
        """Nothing is left behind."""

    def rows(self, reading: Reading, spans: Sequence[Span]) -> list[Row]:
        """The rows of a block."""
        return [row for rows in reading.rows(self.scorer.guard, spans) for row in rows]


def score(
    inputs: str | Path | Sequence[str | Path],
    folder: str | Path,
    out: str | Path,
    *,
    workers: int = 2,
    threads: int = 1,
    batch_size: int = 256,
    device: str | None = None,
    transform: str | None = None,
    log: str | Path | None = None,
    explain: bool = False,
    keep: int = 24,
    show_progress: bool | None = None,
    **guard: Any,
) -> Summary:
    """Write one row an image, in order, as ``offmap score`` does, with several processes.

    Blocks of four batches are sent as paths, or rows of a Parquet file, so that images are read
    where they are scored, and the rows of finished blocks are kept beside ``out`` in their order:
    interrupted, the same call goes on behind the last of them, with any number of workers, or
    without Ray. Batches are cut where one process cuts them, so rows are equal to the bit where
    threads and machine are alike. A worker that dies is started again, and its blocks with it.

    Runs in the Ray session that is there: the one of this process, or that of ``$RAY_ADDRESS``,
    whose machines need ``folder`` and the images under the same paths; neither is shut down. Else
    one is started for as long as this takes.

    Args:
        inputs: files, folders, patterns and Parquet files of images.
        folder: of a calibrated guard.
        out: ``.parquet``, ``.csv`` or ``.jsonl``.
        workers: processes.
        threads: of torch and of decoding, in each; so many processors are taken for it.
        batch_size: images at a time.
        device: of the workers, each of which takes one GPU if it is "cuda".
        transform: ``file.py:NAME``, of the function that made the images of the fit.
        log: a log that the verdicts are added to, for ``offmap watch``.
        explain: add a column ``reason``.
        keep: rows that the summary keeps of the most and of the least known.
        show_progress: ``None`` shows a bar on a terminal.
        **guard: ``model``, ``weights``, ``alarm_rate`` and the like: see :class:`Scorer`.

    Raises:
        MissingExtraError: Ray is not installed.
        ArgumentError: the Ray session is too small or of another version; or as ``offmap score``.
        OffmapError: workers die on one block again and again.
    """
    specs = [inputs] if isinstance(inputs, str | Path) else inputs
    workers, threads = whole("workers", workers), whole("threads", threads)
    gpus = gpus_of(device)
    scorer = Scorer(folder, threads=threads, device=device, transform=transform, **guard)
    local_guard = Scorer(folder, transform=transform, **guard).guard
    with (
        session(workers * threads, workers * gpus) as ray,
        Pool(
            ray, Reader, [scorer, os.getcwd()], workers=workers, threads=threads, gpus=gpus
        ) as pool,
    ):

        def spread(reading: Reading, spans: Iterator[Span]) -> Iterable[list[Row]]:
            reading = replace(reading, transform=scorer.transform)
            blocks = blocks_of(spans, _BATCHES * batch_size)
            return pool.ordered("rows", ((reading, block) for block in blocks))

        return score_files(
            local_guard,
            [str(spec) for spec in specs],
            out,
            transform=transform,
            batch_size=batch_size,
            keep=keep,
            log=log,
            explain=explain,
            spread=spread,
            show_progress=show_progress,
        )
