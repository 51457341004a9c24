"""The largest values of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap.stats.statistic import Statistic


@dataclass(frozen=True)
class Largest(Statistic):
    """The ``size`` largest values of each class.

    Args:
        values: in descending order, ``(c, size)``; minus infinite where a class has fewer.
    """

    values: Float[Tensor, "c size"]

    @classmethod
    def of(
        cls, x: Float[Tensor, " n"], labels: Int64[Tensor, " n"], *, classes: int, size: int
    ) -> Self:
        """Those of one batch."""
        order = x.argsort(descending=True)
        order = order[labels[order].argsort(stable=True)]  # class by class
        count = labels.bincount(minlength=classes)
        begin = (count.cumsum(0) - count)[labels[order]]
        place = torch.arange(len(x), device=x.device) - begin
        mask = place < size
        values = x.new_full((classes, size), -torch.inf)
        values[labels[order][mask], place[mask]] = x[order[mask]]
        return cls(values)

    def __add__(self, other: Self) -> Self:
        """Those of both parts together."""
        values = torch.cat([self.values, other.values], dim=1)
        return type(self)(values.topk(self.values.shape[1], dim=1).values)
