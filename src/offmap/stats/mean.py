"""The mean of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from jaxtyping import Float, Shaped
from torch import Tensor

from offmap._utils.precision import wide
from offmap.stats.statistic import Statistic


@dataclass(frozen=True)
class Mean(Statistic):
    """Count and mean of vectors, in float64.

    Args:
        count: number of vectors, ``()``.
        mean: their mean, ``(d,)``.
    """

    count: Float[Tensor, ""]
    mean: Float[Tensor, " d"]

    @classmethod
    def of(cls, x: Shaped[Tensor, "n d"]) -> Self:
        """The mean of one batch."""
        x = wide(x)
        return cls(x.new_tensor(len(x)), mean_of(x))

    def __add__(self, other: Self) -> Self:
        """The mean of both parts together."""
        count = self.count + other.count
        return type(self)(
            count, self.mean + (other.mean - self.mean) * (other.count / count.clamp(min=1))
        )


def mean_of(x: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """The mean of the rows, and 0 where there are none: NaN would spread to every sum."""
    return x.mean(0) if len(x) else x.new_zeros(x.shape[1])
