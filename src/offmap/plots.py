"""Figures of an evaluation. Each function returns a matplotlib figure; ``save`` writes it whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from offmap.errors import ArgumentError
from offmap.files import atomic
from offmap.metrics import roc_curve
from offmap.results import Results

_ID, _OOD = "#4477aa", "#cc6677"


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure; the format follows the suffix."""
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def histograms(results: Results, detector: str) -> Figure:
    """Score histograms of ID against each OOD set, and the calibrated threshold if any."""
    rows = [row for row in results.rows if row.detector == detector]
    if not rows:
        raise ArgumentError(f"no detector {detector!r}; there are {', '.join(results.detectors)}")
    figure, axes = _grid(len(rows))
    scores = results.scores[detector]
    for axis, row in zip(axes, rows, strict=True):
        both = np.concatenate([scores["id"], scores[row.set]])
        # The far tails of a few samples would squeeze everything else into one bar.
        low, high = np.quantile(both, [0.002, 0.998]).tolist()
        bins = np.linspace(low, high, 50)
        for name, colour in (("id", _ID), (row.set, _OOD)):
            values = np.clip(scores[name], low, high)
            axis.hist(values, bins=list(bins), density=True, alpha=0.6, color=colour, label=name)
        if row.threshold is not None:
            axis.axvline(row.threshold, color="black", lw=1, ls="--", label="threshold")
        axis.set_title(f"{row.set}: AUROC {row.auroc:.2%}", fontsize=9)
        axis.legend(fontsize=7)
        axis.set_yticks([])
    figure.suptitle(f"{detector} scores; higher is more OOD", fontsize=10)
    return figure


def roc_curves(results: Results) -> Figure:
    """ROC curves of every detector, one panel an OOD set, best AUROC first in each legend."""
    sets = [name for names in results.groups.values() for name in names]
    figure, axes = _grid(len(sets), side=3.6)
    colours = {d: colormaps["tab20"](i % 20) for i, d in enumerate(results.detectors)}
    for axis, name in zip(axes, sets, strict=True):
        for d in sorted(results.detectors, key=lambda d: -results.get(d, name)):
            scores = results.scores[d]
            curve = roc_curve(scores["id"], scores[name]).thinned(points=300)
            label = f"{d} {results.get(d, name):.1%}"
            axis.plot(curve.fpr, curve.tpr, lw=1, color=colours[d], label=label)
        axis.plot([0, 1], [0, 1], color="grey", lw=0.5)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("share of ID called OOD", fontsize=8)
        axis.set_ylabel("share of OOD caught", fontsize=8)
        axis.legend(fontsize=5)
    return figure


def training_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and accuracy over the epochs, of training batches and of the validation data."""
    figure, axes = _grid(2, side=3.6, columns=2)
    epochs = [row["epoch"] for row in history]
    for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
        for part, colour in (("train", _ID), ("validation", _OOD)):
            values = [row[f"{part}_{what}"] for row in history]
            axis.plot(epochs, values, marker=".", color=colour, label=part)
        axis.set_title(what, fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.legend(fontsize=7)
    return figure


def image_grid(images: Sequence[Tensor], titles: Sequence[str], *, heading: str = "") -> Figure:
    """Images ``(c, h, w)``, uint8 or float, each under its title."""
    figure, axes = _grid(len(images), side=1.5, columns=8)
    for axis, image, title in zip(axes, images, titles, strict=True):
        axis.imshow(_shown(image), cmap="gray", interpolation="nearest")
        axis.set_title(title, fontsize=7)
        axis.axis("off")
    figure.suptitle(heading, fontsize=10)
    return figure


def _grid(count: int, *, side: float = 2.8, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes, and nothing in the places that are left."""
    columns = min(columns, max(count, 1))
    rows = max(ceil(count / columns), 1)
    figure = Figure(figsize=(side * columns, side * rows + 0.4), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]


def _shown(image: Tensor) -> Any:
    """Height, width and colour in [0, 1]; floats are stretched to that range."""
    x = image.detach().cpu().float()
    low, high = (0.0, 255.0) if not image.is_floating_point() else (float(x.min()), float(x.max()))
    return ((x - low) / max(high - low, 1e-12)).permute(1, 2, 0).squeeze(-1).numpy()
