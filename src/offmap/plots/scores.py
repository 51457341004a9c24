"""Scores of an evaluation: histograms and ROC curves."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from offmap.errors import ArgumentError
from offmap.evaluation import Results
from offmap.metrics import roc_curve
from offmap.plots._panels import COLOURS, ID, OOD, TITLE, key, line, panels, short, words

_NAMED = len(COLOURS)  # so many lines are told apart by colour alone
_GREY: dict[str, Any] = {"color": "0.8", "lw": 0.5}


def histograms(results: Results, detector: str) -> Figure:
    """Score histograms of ID against each OOD set, and the calibrated threshold if any.

    The outermost bars include the scores beyond them, at most a fiftieth of a set.
    """
    rows = [row for row in results.rows if row.detector == detector]
    if not rows:
        raise ArgumentError(f"no detector {detector!r}; there are {', '.join(results.detectors)}")
    figure, axes = panels(len(rows))
    for axis, row in zip(axes, rows, strict=True):
        scores = results.scores[detector]
        # The far tails of a few samples would squeeze everything else into one bar.
        ends = np.array([np.quantile(scores[name], [0.02, 0.98]) for name in ("id", row.set)])
        low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
        if low == high:  # bars need a width
            low, high = low - 0.5, high + 0.5
        bins = np.linspace(low, high, 50).tolist()
        for name, colour, label in (("id", ID, "ID"), (row.set, OOD, "OOD")):
            # In float64: in float32 the end would be rounded, at times out of the outermost bar.
            values = np.clip(np.asarray(scores[name], np.float64), low, high)
            axis.hist(values, bins=bins, density=True, alpha=0.6, color=colour, label=label)
        if row.threshold is not None:
            axis.axvline(row.threshold, color="black", lw=1, ls="--", label="threshold")
        words(axis, f"{row.set}: AUROC {row.auroc:.2%}", "score", "density")
        axis.set_yticks([])
    key(figure, axes)
    figure.suptitle(f"{short(detector)} scores; higher is more OOD", fontsize=TITLE + 1)
    return figure


def roc_curves(results: Results) -> Figure:
    """ROC curves of every detector, one panel an OOD set.

    Those with the highest mean AUROC have a colour each, the same in all panels; the others are
    grey. A panel names the best one of its set.
    """
    sets = [name for names in results.groups.values() for name in names]
    figure, axes = panels(len(sets))
    order = sorted(results.detectors, key=lambda d: -results.mean(d))
    for axis, name in zip(axes, sets, strict=True):
        for rank, d in enumerate(order):
            scores = results.scores[d]
            curve = roc_curve(scores["id"], scores[name]).thinned(points=300)
            look = {"lw": 1, **line(rank)} if rank < _NAMED else _GREY
            label = d if rank < _NAMED else f"{len(order) - _NAMED} others"
            axis.plot(curve.fpr, curve.tpr, label=label, zorder=2 - rank / len(order), **look)
        axis.plot([0, 1], [0, 1], color="grey", lw=0.5)
        best = max(order, key=lambda d: results.get(d, name))
        title = f"{name}: best AUROC {results.get(best, name):.1%}\n{short(best)}"
        words(axis, title, "share of ID called OOD", "share of OOD caught")
    key(figure, axes)
    return figure
