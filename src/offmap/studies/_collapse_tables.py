"""Study D in numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from offmap._utils.table import filled, render
from offmap.evaluation import Results
from offmap.evaluation.collapse import Collapse
from offmap.studies._study import auroc_table
from offmap.training.records import FIGURES, Records, scale, title

RECORDED = ["msp", "maxlogit", "energy", "mahalanobis", "vim", "neco"]
TERMINAL = 0.999  # training accuracy from which the terminal phase is counted
_METRICS = ("auroc", "fpr_id_kept")


def report(
    results: Mapping[str, Results],
    collapses: Mapping[str, Collapse],
    records: Records | None,
    sources: Mapping[str, str],
) -> str:
    """All tables."""
    parts = [] if records is None else [records.table(), terminal(records), relation(records)]
    for name, of_network in results.items():
        by_metric = "\n\n".join(of_network.table(metric) for metric in _METRICS)
        parts.append(f"== {name}: {sources.get(name, '')} ==\n{by_metric}")
    return "\n\n".join([*parts, _figures(collapses)])


def summary(
    results: Mapping[str, Results],
    collapses: Mapping[str, Collapse],
    records: Records | None,
    sources: Mapping[str, str],
) -> str:
    """Collapse of each network, detectors on the last, and both over the training."""
    systems = [(n, d, r) for n, r in list(results.items())[-1:] for d in RECORDED if d in r.scores]
    return "\n\n".join(
        [
            "\n".join(f"{name}: {sources.get(name, '')}" for name in results),
            _figures(collapses),
            *([] if records is None else [filled(terminal(records))]),
            auroc_table(systems),
            *([] if records is None else [relation(records)]),
        ]
    )


def terminal(records: Records) -> str:
    """What happens once all training images are classified correctly, and in the last third."""
    epochs, accuracy = np.array(records.epochs), records.of("accuracy")
    terminal_phase = np.flatnonzero(accuracy >= TERMINAL)
    if len(terminal_phase):
        nc1, first = records.of("nc1"), terminal_phase[0]
        line = (
            f"training accuracy is {accuracy[first]:.2%} in epoch {epochs[first]}; from there NC1 "
            f"falls {nc1[first] / nc1[-1]:.1f} times, from {nc1[first]:.4g} to {nc1[-1]:.4g}"
        )
    else:
        line = f"training accuracy stays below {TERMINAL:.1%}: {accuracy.max():.2%} at the most"
    last = epochs > epochs[-1] * 2 / 3
    trends = ", ".join(
        f"{title(name)} {spearman(epochs[last], records.of(name)[last]):+.3f}"
        for name in ("nc1", "nc2_norms", "nc2_angles", "nc2_simplex", "nc3", "nc5")
    )
    return (
        f"{line}\nlast third, {last.sum()} records: training accuracy {accuracy[last].min():.2%} "
        f"and more, NC4 {records.of('nc4')[last].max():.2%} and less; Spearman correlation with "
        f"the epoch: {trends}"
    )


def relation(records: Records) -> str:
    """Over all records: does a detector gain where the network has collapsed?"""
    cells = {}
    for name in records.detectors:
        auroc = records.auroc(name)
        finite = np.isfinite(auroc)
        row = [spearman(records.of(nc)[finite], auroc[finite]) for nc in ("nc1", "nc5")]
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


def _figures(collapses: Mapping[str, Collapse]) -> str:
    """The figures of collapse of each network, NC5 by OOD set."""
    cells = {name: of_network.figures() for name, of_network in collapses.items()}
    first = next(iter(cells.values()))
    columns = ["accuracy", *FIGURES, *(name for name in first if "nc5_" in name)]
    rows = {
        name: [scale(c) * (float("nan") if row[c] is None else row[c]) for c in columns]
        for name, row in cells.items()
    }
    heads = [title(name) for name in columns]
    return "neural collapse\n\n" + render(rows, heads, star=False, corner="network", digits=4)
