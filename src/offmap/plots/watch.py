"""Figures of a monitor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from offmap.guard import Monitor
from offmap.plots._panels import ID, OOD, TITLE, key, panels, words

_CLASSES = 30  # with the highest rates are shown


def watch(monitor: Monitor, classes: Sequence[str] = ()) -> Figure:
    """Log wealth over the samples, the histogram of p-values, and alarm rates by class.

    Args:
        monitor: which has seen some samples.
        classes: names of the labels.
    """
    figure, axes = panels(3, side=3.6, columns=3)
    wealth, p_values, by_class = axes
    points = [*monitor.path.points, (monitor.samples, monitor.log_wealth)]
    wealth.plot(*zip(*points, strict=True), lw=1, color=OOD)
    wealth.axhline(-math.log(monitor.alpha), color="black", lw=1, ls="--", label="alarm")
    if monitor.alarm is not None:
        wealth.axvline(monitor.alarm.change, color="grey", lw=1, ls=":", label="estimated change")
    wealth.set_yscale("symlog", linthresh=10)  # the bets on a stream of alarms gain without end
    words(wealth, "log wealth", "samples", "nats")
    counts = np.array(monitor.tally.p_values)
    edges = np.linspace(0, 1, len(counts) + 1)
    p_values.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=ID, alpha=0.8)
    if monitor.certified.tests == 1:  # the lowest of several p-values is no even one
        p_values.axhline(counts.mean(), color=OOD, lw=1, ls="-.", label="if all were ID")
    words(p_values, "p-values", "p-value", "samples")
    shares = {label: a / n for label, (n, a) in monitor.tally.by_class.items()}
    labels = sorted(sorted(shares, key=lambda label: -shares[label])[:_CLASSES])
    names = [classes[label] if label < len(classes) else str(label) for label in labels]
    by_class.bar(range(len(labels)), [shares[label] for label in labels], color=ID, alpha=0.8)
    by_class.set_xticks(range(len(labels)), names, rotation=90)
    if monitor.certified.rule == "per_class":
        rates = monitor.rates[[monitor.certified.group(label) for label in labels]]
        by_class.plot(range(len(labels)), rates, "_", color="black", label="certified, at most")
    else:
        rate = monitor.rates[0]
        by_class.axhline(rate, color="black", lw=1, ls=(0, (8, 3)), label="certified, of all")
    words(by_class, "called OOD, by prediction", "prediction", "share")
    key(figure, axes)
    title = f"guard {monitor.certified.guard}: {monitor.samples:,} samples"
    figure.suptitle(title, fontsize=TITLE + 1)
    return figure
