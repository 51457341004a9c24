"""The interface of statistics, and several of them as one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self


class Statistic(ABC):
    """A summary of data in which parts add up to the whole.

    The statistic of an empty batch is the identity: adding it changes no bit.
    """

    @abstractmethod
    def __add__(self, other: Self, /) -> Self:
        """The statistic of both parts together: commutative and associative."""


@dataclass(frozen=True)
class Product(Statistic):
    """Several statistics of the same data, which add one by one.

    Args:
        parts: in an order that stays.
    """

    parts: tuple[Statistic, ...]

    def __add__(self, other: Self) -> Self:
        """The statistics of both parts together."""
        return type(self)(tuple(a + b for a, b in zip(self.parts, other.parts, strict=True)))
