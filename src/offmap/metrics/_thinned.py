"""Curves with few enough points to draw."""

from __future__ import annotations

from typing import Self

import numpy as np

from offmap._utils.arguments import whole


class Curve:
    """A curve whose fields are arrays of one length, a point in each place."""

    def thinned(self, *, points: int = 500) -> Self:
        """At most that many of its points, both ends among them, spread evenly along it.

        A point that is left out lies at most ``length / (points - 1)`` from one that is kept,
        where ``length`` is the sum of the steps along both axes: 2 for a ROC curve.

        Args:
            points: how many to keep, at least two.

        Raises:
            ArgumentError: fewer than two points are asked for.
        """
        points = whole("points", points, low=2)
        x, y, *_ = arrays = tuple(vars(self).values())
        way = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        marks = np.searchsorted(way, np.linspace(0, way[-1], points))
        marks[-1] = len(way) - 1  # a last step too short for the sum would be missed
        keep = np.unique(marks)
        return type(self)(*(array[keep] for array in arrays))
