"""The mean of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from jaxtyping import Float64, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """Count and mean of vectors, in float64.

    Args:
        count: number of vectors, ``()``.
        mean: their mean, ``(d,)``.
    """

    count: Float64[Tensor, ""]
    mean: Float64[Tensor, " d"]

    @classmethod
    def of(cls, x: Shaped[Tensor, "n d"]) -> Self:
        """The mean of one batch."""
        x = x.double()
        return cls(x.new_tensor(len(x)), x.mean(0))

    def __add__(self, other: Self) -> Self:
        """The mean of both parts together."""
        count = self.count + other.count
        return type(self)(count, self.mean + (other.mean - self.mean) * (other.count / count))
