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
            ArgumentError: ``points`` is below two.
        """
        points = whole("points", points, low=2)
        x, y, *_ = arrays = tuple(vars(self).values())
        length = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        indices = np.searchsorted(length, np.linspace(0, length[-1], points))
        indices[-1] = len(length) - 1  # a last step too short for the sum would be missed
        indices = np.unique(indices)
        return type(self)(*(array[indices] for array in arrays))
