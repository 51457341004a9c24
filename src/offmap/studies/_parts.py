"""Figures on parts of the samples: at a fixed ratio, on right answers alone, held out or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Bool, Int64
from numpy.typing import NDArray

from offmap.errors import ArgumentError, DataError
from offmap.evaluation import Results, Row
from offmap.metrics import detection

HELD_OUT = 0.2
Array = NDArray[np.float32]


def at_ratio(results: Results, ratio: int = 5, *, seed: int = 0) -> Results:
    """The same evaluation with ID:OOD = ``ratio``:1 for every set.

    OOD is the smaller of the set and a share ``1 / ratio`` of the evaluated ID samples, and ID is
    ``ratio`` times that; the seed chooses which, the same for every detector and network. AUROC and
    FPR do not mind but for the samples that are left out; AUPR does.

    Raises:
        ArgumentError: a set without enough ID samples for one OOD sample.
    """

    def chosen(known: Array, unknown: Array) -> tuple[Array, Array]:
        count = min(len(known) // ratio, len(unknown))
        if count < 1:
            raise ArgumentError(f"{len(known)} ID samples are too few for a ratio of {ratio}:1")
        return (
            known[_order(len(known), seed)[: ratio * count]],
            unknown[_order(len(unknown), seed)[:count]],
        )

    rows = [_row(row, *chosen(*_scores(results, row))) for row in results.rows]
    return replace(results, rows=rows, settings=results.settings | {"ratio": ratio})


def only_right(results: Results, right: Bool[np.ndarray, " n"]) -> Results:
    """The same evaluation against the ID samples that are answered rightly.

    Raises:
        DataError: none is.
    """
    if not right.any():
        raise DataError("no ID sample is answered rightly")
    rows = []
    for row in results.rows:
        known, unknown = _scores(results, row)
        rows.append(_row(row, known[right], unknown))
    return replace(results, rows=rows)


@dataclass(frozen=True)
class Part:
    """Positions of ID and of OOD samples."""

    known: Int64[np.ndarray, " n"]
    unknown: Int64[np.ndarray, " m"]


def held_out(n_id: int, n_ood: int, *, share: float = HELD_OUT, seed: int = 0) -> tuple[Part, Part]:
    """A seeded share of both kinds to choose on, and the rest; in each as many ID as OOD samples.

    Precision and F1 depend on that ratio: a threshold that is chosen at another is not the best.

    Raises:
        DataError: one of the parts would be empty.
    """
    known, unknown = _order(n_id, seed), _order(n_ood, seed)
    cut, other = round(share * n_id), round(share * n_ood)
    held, count = min(cut, other), min(n_id - cut, n_ood - other)
    if min(held, count) < 1:
        raise DataError(
            f"a share of {share} of {n_id} ID and {n_ood} OOD samples leaves a part empty: give "
            "more samples"
        )
    rest = Part(known[cut : cut + count], unknown[other : other + count])
    return Part(known[:held], unknown[:held]), rest


def _scores(results: Results, row: Row) -> tuple[Array, Array]:
    of = results.scores[row.detector]
    return of["id"], of[row.set]


def _row(row: Row, known: Array, unknown: Array) -> Row:
    return replace(row, **asdict(detection(known, unknown)))


def _order(count: int, seed: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng(seed).permutation(count)
