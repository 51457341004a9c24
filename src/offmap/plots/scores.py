"""Scores of an evaluation: histograms and ROC curves."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from offmap.errors import ArgumentError
from offmap.evaluation import Results
from offmap.metrics import roc_curve
from offmap.plots._panels import ID, OOD, panels

# So many lines of one panel can be told apart, and their names leave room for the curves.
_NAMED = 12
_GREY: dict[str, Any] = {"color": "0.8", "lw": 0.5}


def histograms(results: Results, detector: str) -> Figure:
    """Score histograms of ID against each OOD set, and the calibrated threshold if any."""
    rows = [row for row in results.rows if row.detector == detector]
    if not rows:
        raise ArgumentError(f"no detector {detector!r}; there are {', '.join(results.detectors)}")
    figure, axes = panels(len(rows))
    scores = results.scores[detector]
    for axis, row in zip(axes, rows, strict=True):
        both = np.concatenate([scores["id"], scores[row.set]])
        # The far tails of a few samples would squeeze everything else into one bar.
        low, high = np.quantile(both, [0.002, 0.998]).tolist()
        if low == high:  # bars need a width
            low, high = low - 0.5, high + 0.5
        bins = np.linspace(low, high, 50)
        for name, colour in (("id", ID), (row.set, OOD)):
            values = np.clip(scores[name], low, high)
            axis.hist(values, bins=list(bins), density=True, alpha=0.6, color=colour, label=name)
        if row.threshold is not None:
            axis.axvline(row.threshold, color="black", lw=1, ls="--", label="threshold")
        axis.set_title(f"{row.set}: AUROC {row.auroc:.2%}", fontsize=9)
        axis.legend(fontsize=7, loc="upper right")
        axis.set_yticks([])
    figure.suptitle(f"{detector} scores; higher is more OOD", fontsize=10)
    return figure


def roc_curves(results: Results) -> Figure:
    """ROC curves of every detector, one panel an OOD set: the best are named, the others grey."""
    sets = [name for names in results.groups.values() for name in names]
    figure, axes = panels(len(sets), side=3.6)
    for axis, name in zip(axes, sets, strict=True):
        order = sorted(results.detectors, key=lambda d: -results.get(d, name))
        for place, d in enumerate(order):
            scores = results.scores[d]
            curve = roc_curve(scores["id"], scores[name]).thinned(points=300)
            named = place < _NAMED
            label = f"{d} {results.get(d, name):.1%}" if named else None
            look = {"color": colormaps["tab20"](place), "lw": 1} if named else _GREY
            axis.plot(curve.fpr, curve.tpr, label=label, zorder=2 - place / len(order), **look)
        if len(order) > _NAMED:
            axis.plot([], [], label=f"{len(order) - _NAMED} others", **_GREY)
        axis.plot([0, 1], [0, 1], color="grey", lw=0.5)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("share of ID called OOD", fontsize=8)
        axis.set_ylabel("share of OOD caught", fontsize=8)
        axis.legend(fontsize=5, loc="lower right")
    return figure
