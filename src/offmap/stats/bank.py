"""A bounded sample of rows that does not depend on their order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

_PARTS = 64


@dataclass(frozen=True)
class Bank:
    """The ``size`` rows with the smallest hash of (seed, bits of the row).

    Which rows are kept depends on their content alone, so any order and any split of the data
    give the same bank, and two banks add. Rows that are equal bit for bit share one hash.

    Args:
        size: rows to keep at most.
        parts: pairs of hashes ``(m,)`` and rows ``(m, d)``; joined once there are
            many, or they hold twice ``size``.
    """

    size: int
    parts: tuple[tuple[Int64[Tensor, " _"], Float32[Tensor, "_ d"]], ...]

    @classmethod
    def of(cls, rows: Float[Tensor, "n d"], *, size: int, seed: int = 0) -> Self:
        """The bank of one batch."""
        rows = rows.float() + 0.0  # -0.0 and 0.0 are one value: give them one bit pattern
        return cls(size, ((_hash(rows, seed), rows),))

    def __add__(self, other: Self) -> Self:
        """The bank of both parts together."""
        both = type(self)(min(self.size, other.size), self.parts + other.parts)
        # Joining at every batch would copy the whole bank each time.
        full = sum(len(keys) for keys, _ in both.parts) > 2 * both.size
        many = len(both.parts) > _PARTS
        return type(self)(both.size, (both._kept,)) if full or many else both

    @property
    def rows(self) -> Float32[Tensor, "m d"]:
        """The rows kept, in the order of their hashes."""
        return self._kept[1]

    @cached_property
    def _kept(self) -> tuple[Int64[Tensor, " m"], Float32[Tensor, "m d"]]:
        keys, order = torch.cat([keys for keys, _ in self.parts]).sort(stable=True)
        rows = torch.cat([rows for _, rows in self.parts])
        return keys[: self.size], rows[order[: self.size]]


def _hash(rows: Float32[Tensor, "n d"], seed: int) -> Int64[Tensor, " n"]:
    """A 64-bit hash of each row: a random linear form of its bits, then mixed.

    Dietzfelbinger (1996) for the form, Steele et al. (2014), SplitMix64, for the mixing.
    """
    generator = torch.Generator().manual_seed(seed)
    low, high = -(1 << 63), (1 << 63) - 1
    form = torch.randint(low, high, (rows.shape[1] + 1,), generator=generator).to(rows.device)
    x = (rows.view(torch.int32).long() * form[1:]).sum(1) + form[0]  # wraps modulo 2**64
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Int64[Tensor, " n"], bits: int) -> Int64[Tensor, " n"]:
    """Logical shift to the right, which int64 tensors do not have."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
