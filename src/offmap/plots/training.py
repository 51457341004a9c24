"""Curves of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from offmap.plots._panels import ID, OOD, key, panels, words


def training_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and accuracy over the epochs, of training batches and of the validation data."""
    figure, axes = panels(2, side=3.6, columns=2)
    epochs = [row["epoch"] for row in history]
    for axis, quantity, unit in zip(axes, ("loss", "accuracy"), ("nats", "share"), strict=True):
        for part, colour in (("train", ID), ("validation", OOD)):
            values = [row[f"{part}_{quantity}"] for row in history]
            axis.plot(epochs, values, marker=".", color=colour, label=part)
        words(axis, quantity, "epoch", unit)
    key(figure, axes)
    return figure
