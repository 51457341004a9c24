"""Points of the drawings, few enough for a page: the curves are thinned, and the scores binned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offmap.evaluation import Results
from offmap.metrics import oscr_curve, reliability, risk_coverage, roc_curve
from offmap.reporting.rates import right_of

_BINS = 40
_WIDE = 6  # times the width of ID
_POINTS = 60
# Detectors whose scores are one minus the confidence.
_ONE_MINUS_CONFIDENCE = ("msp", "maxprobability")


def histograms(results: Results, detector: str, sets: list[str]) -> list[dict[str, Any]]:
    """Counts of the ID set and of each OOD set, in common bins; tails are in the outer bars.

    The bins are where ID and most of the OOD set lie, and at most six times as wide as ID: far OOD
    scores would leave one bar for all of ID.
    """
    scores = {name: np.asarray(x, np.float64) for name, x in results.scores[detector].items()}
    first, last = np.quantile(scores["id"], [0.002, 0.998]).tolist()
    width, drawn = last - first, []
    for name in sets:
        low, high = np.quantile(scores[name], [0.02, 0.98]).tolist()
        low, high = min(low, first), max(high, last)
        if width > 0:
            low, high = max(low, last - _WIDE * width), min(high, first + _WIDE * width)
        if low == high:  # bars need a width
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, _BINS + 1)
        counts = [
            np.histogram(np.clip(scores[each], low, high), edges)[0].tolist()
            for each in ("id", name)
        ]
        # Unrounded: cosines lie close to one.
        drawn.append({"low": low, "high": high, "counts": counts})
    return drawn


def roc(results: Results, detector: str, sets: list[str]) -> list[list[list[float]]]:
    """For each OOD set, the shares of ID and of OOD called OOD."""
    scores = results.scores[detector]
    curves = [roc_curve(scores["id"], scores[name]).thinned(points=_POINTS) for name in sets]
    return [[_round(curve.fpr), _round(curve.tpr)] for curve in curves]


def risk(results: Results, detector: str) -> list[list[float]] | None:
    """Coverage, and the risk at it, of the ID samples; ``None`` without labels."""
    right = right_of(results)
    if right is None:
        return None
    curve = risk_coverage(results.scores[detector]["id"], right).thinned(points=_POINTS)
    return [_round(curve.coverage), _round(curve.risk)]


def oscr(results: Results, detector: str, sets: list[str]) -> list[list[list[float]]] | None:
    """For each OOD set, the share accepted, and the share of ID accepted and right."""
    right = right_of(results)
    if right is None:
        return None
    scores = results.scores[detector]
    curves = [
        oscr_curve(scores["id"], right, scores[name]).thinned(points=_POINTS) for name in sets
    ]
    return [[_round(curve.fpr), _round(curve.ccr)] for curve in curves]


def calibration(results: Results) -> dict[str, Any] | None:
    """The reliability diagram, where scores give the confidence of each prediction."""
    right = right_of(results)
    names = [
        n
        for n in results.detectors
        if n.lower().removesuffix("()") in _ONE_MINUS_CONFIDENCE
        and n in results.summaries  # a function of the user, whatever its name, has none
    ]
    ids = {n: np.asarray(results.scores[n]["id"], np.float64) for n in names}
    name = next((n for n, x in ids.items() if len(x) and x.min() >= 0 and x.max() <= 1), None)
    # In a cascade, scores are of the filter, and predictions of the classifier.
    if right is None or name is None or "classifier" in results.settings:
        return None
    diagram = reliability(1 - ids[name], right)
    bins = diagram.count > 0
    return {
        "ece": diagram.ece,
        "n": len(right),
        "count": diagram.count[bins].tolist(),
        "confidence": _round(diagram.confidence[bins]),
        "accuracy": _round(diagram.accuracy[bins]),
    }


def _round(values: NDArray[Any]) -> list[float]:
    return [round(float(x), 4) for x in values]
