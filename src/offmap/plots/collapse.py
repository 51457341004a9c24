"""Figures of neural collapse."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from offmap.plots._panels import ID, OOD, SMALL, TITLE, key, line, own_key, panels, words

_SHOWN = 300  # samples of each set in a plane
Line = Float[np.ndarray, " n"]


def epoch_curves(
    epochs: Sequence[int], parts: Mapping[str, Mapping[str, Line]], *, log: Collection[str] = ()
) -> Figure:
    """Figures over the epochs: a panel for each part, a line for each of its names.

    Args:
        epochs: along each panel.
        parts: values by panel and line.
        log: panels with a logarithmic scale.
    """
    figure, axes = panels(len(parts), side=3.2, columns=3)
    for axis, (name, lines) in zip(axes, parts.items(), strict=True):
        for i, (label, values) in enumerate(lines.items()):
            axis.plot(epochs, values, marker=".", lw=1, label=label, **line(i))
        if name in log:
            axis.set_yscale("log")
        words(axis, name, "epoch")
        own_key(axis)
    return figure


def cosine_matrices(cosines: Mapping[str, Float[np.ndarray, "k k"]]) -> Figure:
    """Cosines of class means, a panel each; off the diagonal a simplex has ``-1 / (k - 1)``."""
    figure, axes = panels(len(cosines), side=3.4, columns=3)
    for axis, (name, matrix) in zip(axes, cosines.items(), strict=True):
        image = axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        words(axis, f"{name}; simplex {-1 / (len(matrix) - 1):.3f}", "class", "class")
        bar = figure.colorbar(image, ax=axis, shrink=0.7)
        bar.ax.tick_params(labelsize=SMALL)
        bar.set_label("cosine", fontsize=SMALL)
    return figure


def against(
    values: Mapping[str, Line], lines: Mapping[str, Line], *, what: str = "AUROC"
) -> Figure:
    """Curves against one value a panel, from the first record (hollow) to the last (full)."""
    figure, axes = panels(len(values), side=3.8, columns=2)
    for axis, (name, x) in zip(axes, values.items(), strict=True):
        for i, (label, y) in enumerate(lines.items()):
            look = line(i)
            axis.plot(x, y, lw=1, label=label, **look)
            axis.scatter(x[:1], y[:1], s=18, facecolors="none", edgecolors=look["color"])
            axis.scatter(x[-1:], y[-1:], s=18, color=look["color"])
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        words(axis, "", name, what)
    key(figure, axes)
    return figure


def plane(
    points: Mapping[str, Float[np.ndarray, "n 2"]],
    means: Float[np.ndarray, "k 2"],
    *,
    heading: str = "",
) -> Figure:
    """Sets on two principal directions of the ID features, with class means and the origin.

    Args:
        points: by set, the ID set first; the first 300 of each are shown.
        means: of the classes.
        heading: of the figure.
    """
    figure, axes = panels(len(points), side=3.0, columns=4)
    for axis, (name, features) in zip(axes, points.items(), strict=True):
        colour = ID if axis is axes[0] else OOD
        axis.scatter(features[:_SHOWN, 0], features[:_SHOWN, 1], s=4, alpha=0.5, color=colour)
        axis.scatter(
            means[:, 0], means[:, 1], s=22, marker="x", color="black", lw=0.8, label="class means"
        )
        axis.scatter([0], [0], s=40, marker="+", color="green", label="origin")
        axis.sharex(axes[0])
        axis.sharey(axes[0])
        words(axis, name, "first direction", "second direction")
    key(figure, axes)
    figure.suptitle(heading, fontsize=TITLE + 1)
    return figure
