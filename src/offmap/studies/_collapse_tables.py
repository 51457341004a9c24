"""Study D in numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from offmap._utils.table import render
from offmap.evaluation import Results
from offmap.evaluation.collapse import Collapse
from offmap.studies.records import FIGURES, Records, scale, title

RIGHT = 0.999  # training accuracy from which the terminal phase is counted
_METRICS = ("auroc", "fpr_id_kept")


def report(
    results: Mapping[str, Results],
    measured: Mapping[str, Collapse],
    records: Records | None,
    sources: Mapping[str, str],
) -> str:
    """All tables."""
    parts = [] if records is None else [records.table(), terminal(records), relation(records)]
    parts += [
        f"== {name}: {sources.get(name, '')} ==\n{_of(found)}" for name, found in results.items()
    ]
    return "\n\n".join([*parts, _side_by_side(measured)])


def _of(found: Results) -> str:
    return "\n\n".join(found.table(metric) for metric in _METRICS)


def _side_by_side(measured: Mapping[str, Collapse]) -> str:
    """The figures of collapse of each network, NC5 by OOD set."""
    cells = {name: found.figures() for name, found in measured.items()}
    columns = ["accuracy", *FIGURES, *(c for c in next(iter(cells.values())) if "nc5_" in c)]
    rows = {
        name: [scale(c) * (float("nan") if row[c] is None else row[c]) for c in columns]
        for name, row in cells.items()
    }
    heads = [title(name) for name in columns]
    return "neural collapse\n\n" + render(rows, heads, star=False, corner="network", digits=4)


def terminal(records: Records) -> str:
    """What happens once all training images are answered rightly, and in the last third."""
    epochs, accuracy = np.array(records.epochs), records.of("accuracy")
    right = np.flatnonzero(accuracy >= RIGHT)
    if len(right):
        nc1, first = records.of("nc1"), right[0]
        line = (
            f"training accuracy is {accuracy[first]:.2%} in epoch {epochs[first]}; from there NC1 "
            f"falls {nc1[first] / nc1[-1]:.1f} times, from {nc1[first]:.4g} to {nc1[-1]:.4g}"
        )
    else:
        line = f"training accuracy stays below {RIGHT:.1%}: {accuracy.max():.2%} at the most"
    last = epochs > epochs[-1] * 2 / 3
    falls = ", ".join(
        f"{title(name)} {spearman(epochs[last], records.of(name)[last]):+.3f}"
        for name in ("nc1", "nc2_norms", "nc2_angles", "nc2_simplex", "nc3", "nc5")
    )
    return (
        f"{line}\nlast third, {last.sum()} records: training accuracy {accuracy[last].min():.2%} "
        f"and more, NC4 {records.of('nc4')[last].max():.2%} and less; Spearman correlation with "
        f"the epoch: {falls}"
    )


def relation(records: Records) -> str:
    """Over all records: does a detector gain where the network has collapsed?"""
    cells = {}
    for name in records.detectors:
        auroc = records.auroc(name)
        there = np.isfinite(auroc)
        row = [spearman(records.of(nc)[there], auroc[there]) for nc in ("nc1", "nc5")]
        cells[name] = [100 * auroc[0], 100 * np.nanmax(auroc), 100 * auroc[-1], *row]
    columns = ["first", "best", "last", "rank correlation with NC1", "with NC5"]
    heading = "mean AUROC in % over the records; they are few and of one run: this shows no cause"
    return f"{heading}\n\n{render(cells, columns, star=False)}"


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation; NaN where one side does not change."""
    from scipy.stats import spearmanr  # here: it takes a second

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)
