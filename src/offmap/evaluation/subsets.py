"""An evaluation on some of its samples: at a fixed ratio, or on correctly classified ones alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int64

from offmap._utils.arguments import number, whole
from offmap.errors import ArgumentError, DataError
from offmap.evaluation.results import Results
from offmap.evaluation.rows import Row, figures_of

HELD_OUT = 0.2


def at_ratio(results: Results, ratio: int = 5, *, seed: int = 0) -> Results:
    """The same evaluation with ID:OOD = ``ratio``:1 for every set.

    OOD is the smaller of the set and a share ``1 / ratio`` of the evaluated ID samples, and ID is
    ``ratio`` times that; the seed chooses which, the same for every detector and network. AUROC and
    FPR change only by the samples that are left out; AUPR depends on the ratio.

    Raises:
        ArgumentError: a set without enough ID samples for one OOD sample, or no ratio.
    """
    ratio = whole("ratio", ratio)

    def subset(n_id: int, n_ood: int) -> Part:
        count = min(n_id // ratio, n_ood)
        if count < 1:
            raise ArgumentError(f"{n_id} ID samples are too few for a ratio of {ratio}:1")
        return Part(_order(n_id, seed)[: ratio * count], _order(n_ood, seed)[:count])

    predictions, labels = results.predictions.get("id"), results.labels.get("id")
    right = None if predictions is None or labels is None else predictions == labels
    rows = _rows(results, subset, right)
    return replace(results, rows=rows, settings=results.settings | {"ratio": ratio})


def only_correct(results: Results, correct: Bool[np.ndarray, " n"]) -> Results:
    """The same evaluation against the correctly classified ID samples alone.

    Args:
        results: of an evaluation.
        correct: whether each ID sample is classified correctly.

    Raises:
        DataError: none is.
    """
    if not correct.any():
        raise DataError("no ID sample is classified correctly")
    positions = np.flatnonzero(correct)
    rows = _rows(results, lambda _, n_ood: Part(positions, np.arange(n_ood)), correct)
    return replace(results, rows=rows)


@dataclass(frozen=True)
class Part:
    """Positions of ID and of OOD samples."""

    id: Int64[np.ndarray, " n"]
    ood: Int64[np.ndarray, " m"]


def held_out(n_id: int, n_ood: int, *, share: float = HELD_OUT, seed: int = 0) -> tuple[Part, Part]:
    """A seeded share of both kinds to choose on, and the rest; each with as many ID as OOD samples.

    Precision and F1 depend on that ratio: a threshold that is chosen at another is not the best.

    Raises:
        DataError: one of the parts would be empty.
    """
    share = number("share", share, above=0, below=1)
    id_order, ood_order = _order(n_id, seed), _order(n_ood, seed)
    id_cut, ood_cut = round(share * n_id), round(share * n_ood)
    n_choice, n_rest = min(id_cut, ood_cut), min(n_id - id_cut, n_ood - ood_cut)
    if min(n_choice, n_rest) < 1:
        raise DataError(
            f"a share of {share} of {n_id} ID and {n_ood} OOD samples leaves a part empty: give "
            "more samples"
        )
    return (
        Part(id_order[:n_choice], ood_order[:n_choice]),
        Part(id_order[id_cut : id_cut + n_rest], ood_order[ood_cut : ood_cut + n_rest]),
    )


def _rows(
    results: Results, subset: Callable[[int, int], Part], right: Bool[np.ndarray, " n"] | None
) -> list[Row]:
    """The rows of an evaluation, all figures computed anew on a subset of both kinds of samples."""
    rows = []
    for row in results.rows:
        of_id, of_ood = results.scores[row.detector]["id"], results.scores[row.detector][row.set]
        part = subset(len(of_id), len(of_ood))
        correct = None if right is None or row.oscr is None else right[part.id]
        figures = figures_of(of_id[part.id], of_ood[part.ood], row.threshold, correct)
        rows.append(replace(row, **({"oscr": None, "aurc": None, "augrc": None} | figures)))
    return rows


def _order(count: int, seed: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng(seed).permutation(count)
