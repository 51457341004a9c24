"""Counts of a stream beside the bets, for people and for figures."""

from __future__ import annotations

import math

import msgspec

_BINS = 20
_POINTS = 128


class Tally(msgspec.Struct):
    """Samples, alarms, p-values and predictions so far.

    Args:
        samples: seen.
        alarms: samples called OOD.
        p_values: how many fell into each twentieth of (0, 1]; evenly many for ID samples of
            one detector.
        by_class: samples and alarms by predicted class.
    """

    samples: int = 0
    alarms: int = 0
    p_values: list[int] = msgspec.field(default_factory=lambda: [0] * _BINS)
    by_class: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)

    def add(self, samples: int, alarms: int, label: int | None, p_value: float | None) -> None:
        """Count samples that have this prediction and, where it is one sample, this p-value."""
        self.samples += samples
        self.alarms += alarms
        if label is not None and label >= 0:
            before = self.by_class.get(label, (0, 0))
            self.by_class[label] = before[0] + samples, before[1] + alarms
        if p_value is not None:
            # A p-value of 1/20 lies in the first bin: it is an alarm at 5 %.
            self.p_values[min(max(math.ceil(p_value * _BINS) - 1, 0), _BINS - 1)] += 1

    def __add__(self, other: Tally) -> Tally:
        """The counts of two streams together."""
        total = Tally(self.samples + other.samples, self.alarms + other.alarms)
        total.p_values = [a + b for a, b in zip(self.p_values, other.p_values, strict=True)]
        total.by_class = dict(self.by_class)
        for label, (samples, alarms) in other.by_class.items():
            before = total.by_class.get(label, (0, 0))
            total.by_class[label] = before[0] + samples, before[1] + alarms
        return total


class Path(msgspec.Struct):
    """A value over the samples, at some hundred points at most, evenly apart.

    Args:
        every: samples from one point to the next.
        points: samples seen, and the value.
    """

    every: int = 1
    points: list[tuple[int, float]] = msgspec.field(default_factory=list)

    def add(self, sample: int, value: float) -> None:
        """Keep the value after so many samples, if one is due."""
        if self.points and sample < self.points[-1][0] + self.every:
            return
        self.points.append((sample, round(value, 4)))
        if len(self.points) == _POINTS:
            self.every *= 2
            self.points = self.points[1::2]
