"""Differences with their intervals, largest first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from offmap.metrics import Difference
from offmap.plots._panels import ID, words


def differences(tests: Mapping[str, Difference], title: str, x: str) -> Figure:
    """One line a name: the difference in points and its interval, with a rule at 0.

    Args:
        tests: by name.
        title: of the figure.
        x: what the difference is of.
    """
    names = sorted(tests, key=lambda name: -tests[name].difference)
    values = [tests[name] for name in names]
    middle = 100 * np.array([d.difference for d in values])
    low, high = (100 * np.array([getattr(d, end) for d in values]) for end in ("low", "high"))
    figure = Figure(figsize=(6, 0.15 * len(names) + 1.0), layout="constrained")
    axis = figure.subplots()
    axis.errorbar(
        middle, range(len(names)), xerr=[middle - low, high - middle], fmt="o", ms=3, lw=1, color=ID
    )
    axis.axvline(0, color="0.5", lw=0.8, zorder=0)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    words(axis, title, x)
    return figure
