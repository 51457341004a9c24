"""Figures at a fixed ratio of ID to OOD samples."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from offmap.errors import ArgumentError
from offmap.metrics import detection
from offmap.results import Results, Row


def at_ratio(results: Results, ratio: int = 5, *, seed: int = 0) -> Results:
    """The same evaluation with ID:OOD = ``ratio``:1 for every set.

    OOD is the smaller of the set and a share ``1 / ratio`` of the evaluated ID samples, and ID is
    ``ratio`` times that; the seed chooses which, the same for every detector and network. AUROC and
    FPR do not mind but for the samples that are left out; AUPR does.

    Raises:
        ArgumentError: a set without enough ID samples for one OOD sample.
    """
    rows = [_row(results, row, ratio, seed) for row in results.rows]
    return replace(results, rows=rows, settings=results.settings | {"ratio": ratio})


def _row(results: Results, row: Row, ratio: int, seed: int) -> Row:
    scores = results.scores[row.detector]
    count = min(len(scores["id"]) // ratio, len(scores[row.set]))
    if count < 1:
        raise ArgumentError(f"{len(scores['id'])} ID samples are too few for a ratio of {ratio}:1")
    known = _chosen(scores["id"], ratio * count, seed)
    unknown = _chosen(scores[row.set], count, seed)
    return replace(row, **asdict(detection(known, unknown)))


def _chosen(values: Any, count: int, seed: int) -> Any:
    return values[np.random.default_rng(seed).permutation(len(values))[:count]]
