"""Exact counts at a grid of alarm rates, from the scores of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from offmap._utils.percent import at_most, percent
from offmap.evaluation import Results
from offmap.guard.decide import alarm_rank, least_samples
from offmap.guard.simultaneous import simultaneous_limits

CONFIDENCE = 0.95
_USUAL = 0.05
_ROUND = (0.01, 0.02, 0.05, 0.1, 0.2)
_LOWEST, _HIGHEST, _POSITIONS = 0.001, 0.5, 90


@dataclass(frozen=True)
class Rates:
    """Positions of the slider.

    Args:
        rates: alarm rates, rising.
        start: position of the evaluation's own rate, or of 5 %.
        n: how many scores the thresholds come from.
        calibrated: whether these are calibration data; else they are the evaluated ID samples.
        bounds: of the true alarm rate at each position, all at once with 95 % confidence: the
            simultaneous band of :func:`offmap.guard.simultaneous.simultaneous_limits`. For one
            detector; empty without calibration data.
    """

    rates: list[float]
    start: int
    n: int
    calibrated: bool
    bounds: list[float]


@dataclass(frozen=True)
class Steps:
    """Counts of one detector at each position.

    Args:
        thresholds: a sample is called OOD above it.
        accepted: evaluated ID samples at or below it.
        right: rightly classified ones among these, where there are labels.
        caught: OOD samples above it, a list a set.
    """

    thresholds: list[float]
    accepted: list[int]
    right: list[int] | None
    caught: list[list[int]]


def rates_of(results: Results) -> Rates:
    """The rates that the calibration data allow, the evaluation's own among them."""
    scores = results.scores[results.detectors[0]]
    calibrated = "calibration" in scores
    n = len(scores["calibration" if calibrated else "id"])
    own = results.settings.get("alarm_rate") or _USUAL
    grid = {float(f"{x:.2g}") for x in np.geomspace(_LOWEST, _HIGHEST, _POSITIONS)}
    candidates = (rate for rate in {*grid, *_ROUND, own} if 0 < rate < 1)
    rates = sorted(r for r in candidates if least_samples(r) <= n) or [1 / (n + 1)]
    start = min(range(len(rates)), key=lambda i: abs(rates[i] - own))
    limits = simultaneous_limits(n, 1 - CONFIDENCE) if calibrated else None
    bounds = [] if limits is None else [float(limits[alarm_rank(n, rate) - 1]) for rate in rates]
    return Rates(rates, start, n, calibrated, bounds)


def steps(results: Results, detector: str, rates: Rates) -> Steps:
    """The counts of one detector."""
    scores = {name: _sort(x) for name, x in results.scores[detector].items()}
    calibration = scores["calibration" if rates.calibrated else "id"]
    ranks = [alarm_rank(rates.n, rate) for rate in rates.rates]
    thresholds = calibration[[rates.n - rank for rank in ranks]]
    right = right_of(results)
    right_scores = None if right is None else _sort(results.scores[detector]["id"][right])
    sets = [name for names in results.groups.values() for name in names]
    return Steps(
        thresholds.tolist(),
        _count_up_to(scores["id"], thresholds).tolist(),
        None if right_scores is None else _count_up_to(right_scores, thresholds).tolist(),
        [(len(scores[s]) - _count_up_to(scores[s], thresholds)).tolist() for s in sets],
    )


def right_of(results: Results) -> Bool[np.ndarray, " n"] | None:
    """Which evaluated ID samples are rightly classified, where that is known."""
    labels, predictions = results.labels.get("id"), results.predictions.get("id")
    return None if labels is None or predictions is None else predictions == labels


def record(rates: Rates, by_detector: Mapping[str, Steps]) -> dict[str, Any]:
    """Plain values for the page, thresholds with the digits that are shown."""
    curves = []
    for each in by_detector.values():
        # Six digits, or more where thresholds differ in later ones, as cosines close to one do.
        low, high = min(each.thresholds), max(each.thresholds)
        spread, size = high - low, max(abs(low), abs(high))
        digits = 5 + math.ceil(math.log10(size / spread)) if 0 < spread < math.inf else 6
        shown = [float(f"{x:.{min(max(digits, 6), 17)}g}") for x in each.thresholds]
        curves.append(asdict(each) | {"thresholds": shown})
    words = {
        "rates_shown": [percent(rate, 2) for rate in rates.rates],
        "bounds_shown": [at_most(bound) for bound in rates.bounds],
    }
    return asdict(rates) | words | {"confidence": CONFIDENCE, "curves": curves}


def _sort(scores: NDArray[Any]) -> Float[np.ndarray, " n"]:
    # In float64: beside float32 scores a threshold would be rounded to float32.
    return np.sort(np.asarray(scores, np.float64))


def _count_up_to(ascending: Float[np.ndarray, " n"], thresholds: Float[np.ndarray, " k"]) -> Any:
    return np.searchsorted(ascending, thresholds, "right")
