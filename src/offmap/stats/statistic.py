"""What every statistic can do."""

from __future__ import annotations

from typing import Protocol, Self


class Statistic(Protocol):
    """A summary of data in which parts add up to the whole."""

    def __add__(self, other: Self, /) -> Self:
        """The statistic of both parts together: commutative and associative."""
        ...
