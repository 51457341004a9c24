"""Drawings of the page's script, as plain values: one form for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, " n"] | Sequence[float]
_BINS = 40


def histogram(title: str, text: str, values: Values, *, x: str, limit: float | None) -> Any:
    """Values in bins of equal width, the far tails in the outer ones, and a threshold.

    Args:
        title: above it.
        text: what it shows, for those who do not see it.
        values: finite ones.
        x: what they are.
        limit: the threshold, if there is one.
    """
    scores = np.asarray(values, np.float64)
    low, high = np.quantile(scores, [0.002, 0.998]).tolist()
    if limit is not None:
        low, high = min(low, limit), max(high, limit)
    if low == high:  # bars need a width
        low, high = low - 0.5, high + 0.5
    counts = np.histogram(np.clip(scores, low, high), np.linspace(low, high, _BINS + 1))[0]
    return bars(title, text, counts.tolist(), (low, high), x=x, limit=limit)


def bars(
    title: str,
    text: str,
    counts: Sequence[int],
    ends: tuple[float, float],
    *,
    x: str,
    limit: float | None = None,
    expected: float | None = None,
) -> dict[str, Any]:
    """Counts in bins of equal width between two ends, drawn as shares.

    Args:
        title: above it.
        text: what it shows, for those who do not see it.
        counts: of each bin.
        ends: of the first and of the last.
        x: what lies along the axis.
        limit: where a line stands.
        expected: a share at which another lies.
    """
    return {
        **{"kind": "bars", "title": title, "text": text, "x": x, "y": "share"},
        **{"counts": [list(counts)], "low": float(ends[0]), "high": float(ends[1])},
        **{"limit": limit, "expected": expected},
    }


def lines(
    title: str,
    text: str,
    of: Mapping[str, tuple[Values, Values]],
    *,
    x: str,
    y: str,
    limit: float | None = None,
) -> dict[str, Any]:
    """Lines over one axis.

    Args:
        title: above it.
        text: what it shows, for those who do not see it.
        of: places and heights of each line by its name.
        x: what lies along the axis.
        y: what is drawn.
        limit: the height of a level line.
    """
    each = [
        {"name": name, "x": list(map(short, xs)), "y": list(map(short, ys))}
        for name, (xs, ys) in of.items()
    ]
    words = {"title": title, "text": text, "xLabel": x, "yLabel": y}
    return {
        "kind": "lines",
        **words,
        "lines": each,
        "limit": None if limit is None else short(limit),
    }


def ranks(title: str, text: str, mean: Mapping[str, float], difference: float) -> dict[str, Any]:
    """Mean ranks, the best first, with the critical difference.

    Args:
        title: above it.
        text: what it shows, for those who do not see it.
        mean: rank of each name.
        difference: critical, of two of them.
    """
    names = sorted(mean, key=lambda name: mean[name])
    return {
        **{"kind": "ranks", "title": title, "text": text, "names": names},
        **{"ranks": [short(mean[name]) for name in names], "difference": short(difference)},
    }


def short(value: float) -> float:
    """A number of six digits."""
    return float(f"{float(value):.6g}")
