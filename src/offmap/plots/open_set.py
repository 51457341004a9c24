"""Open-set predictions: confusion, OSCR curves, and where the samples lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from matplotlib.figure import Figure

from offmap.metrics import OscrCurve
from offmap.plots._panels import SMALL, key, line, look_of_points, panels, words

_SHOWN = 300  # samples of each group in a projection


def confusion(
    counts: Int64[np.ndarray, "k k"], names: Sequence[str], *, heading: str = ""
) -> Figure:
    """Samples by label (rows) and prediction (columns); shades are shares of a row."""
    figure, (axis,) = panels(1, side=max(3.2, 0.5 * len(names) + 1.5))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*counts.shape):
        if counts[i, j]:
            colour = "white" if shares[i, j] > 0.5 else "black"
            look: dict[str, Any] = {"fontsize": SMALL, "color": colour}
            axis.text(j, i, f"{counts[i, j]}", ha="center", va="center", **look)
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    words(axis, heading, "prediction", "label")
    return figure


def oscr_curves(curves: Mapping[str, Mapping[str, OscrCurve]]) -> Figure:
    """OSCR curves by set of unknown samples, a panel each, and by system, a line each."""
    figure, axes = panels(len(curves), side=3.4)
    for axis, (name, systems) in zip(axes, curves.items(), strict=True):
        for i, (system, curve) in enumerate(systems.items()):
            axis.plot(curve.fpr, curve.ccr, lw=1, label=system, **line(i))
        axis.set_xscale("symlog", linthresh=1e-3)  # systems differ where few unknown are accepted
        words(axis, name, "share of unknown accepted", "share of known accepted and correct")
    key(figure, axes)
    return figure


def projection(
    groups: Mapping[str, Float[np.ndarray, "n d"]],
    anchors: Float[np.ndarray, "c d"],
    *,
    heading: str = "",
) -> Figure:
    """Points by group, on the first two principal directions of the anchors and all points.

    Args:
        groups: by name; the first 300 of each are shown.
        anchors: shown as crosses.
        heading: of the figure.
    """
    figure, (axis,) = panels(1, side=5.0)
    samples = {name: points[:_SHOWN] for name, points in groups.items()}
    parts = [anchors, *samples.values()]
    points_of_all = np.concatenate(parts)
    centre = points_of_all.mean(0)
    # The first two principal directions of all points.
    directions = np.linalg.svd(points_of_all - centre, full_matrices=False)[2][:2]
    flat = [(part - centre) @ directions.T for part in parts]
    for i, (name, points) in enumerate(zip(samples, flat[1:], strict=True)):
        axis.scatter(points[:, 0], points[:, 1], s=5, label=name, alpha=0.6, **look_of_points(i))
    axis.scatter(flat[0][:, 0], flat[0][:, 1], marker="x", s=40, color="black", label="anchors")
    words(axis, heading, "first direction", "second direction")
    key(figure, [axis], markerscale=2)
    return figure
