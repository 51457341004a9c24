"""A figure's panels, its colours, and its file."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offmap._utils.files import atomic

ID, OOD = "#4477aa", "#cc6677"


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure; the format follows the suffix."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def panels(count: int, *, side: float = 2.8, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes, and nothing in the remaining places."""
    columns = min(columns, max(count, 1))
    rows = max(ceil(count / columns), 1)
    figure = Figure(figsize=(side * columns, side * rows + 0.4), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]
