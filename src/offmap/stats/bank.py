"""A bounded sample of rows that does not depend on their order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from offmap.stats.statistic import Statistic

_PARTS = 64


@dataclass(frozen=True)
class Bank(Statistic):
    """The ``size`` rows with the smallest hash of (seed, bits of the row).

    Which rows are kept depends on their content alone, so any order and any split of the data
    give the same bank, and two banks add. Rows that are equal bit for bit share one hash, and stand
    in the order of their keys.

    Args:
        size: rows to keep at most.
        parts: hashes ``(m,)``, rows ``(m, d)`` and keys of the samples, if they have any; joined
            once there are many, or they hold twice ``size``.
    """

    size: int
    parts: tuple[tuple[Int64[Tensor, " _"], Float32[Tensor, "_ d"], tuple[str, ...] | None], ...]

    @classmethod
    def of(
        cls,
        rows: Float[Tensor, "n d"],
        *,
        size: int,
        seed: int = 0,
        keys: tuple[str, ...] | None = None,
    ) -> Self:
        """The bank of one batch.

        The hash has 64 bits: a random linear form of a row's bits (Dietzfelbinger, 1996), then
        mixed (Steele et al., 2014: SplitMix64).
        """
        rows = rows.float() + 0.0  # -0.0 and 0.0 are one value: give them one bit pattern
        generator = torch.Generator().manual_seed(seed)
        low, high = -(1 << 63), (1 << 63) - 1
        form = torch.randint(
            low, high, (rows.shape[1] + 1,), generator=generator, device=generator.device
        ).to(rows.device)
        x = (rows.view(torch.int32).long() * form[1:]).sum(1) + form[0]  # wraps modulo 2**64
        x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
        x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
        return cls(size, ((x ^ _shift(x, 31), rows, keys),))

    def __add__(self, other: Self) -> Self:
        """The bank of both parts together."""
        bank = type(self)(min(self.size, other.size), self.parts + other.parts)
        # Joining at every batch would copy the whole bank each time.
        rows = sum(len(hashes) for hashes, _, _ in bank.parts)
        if rows <= 2 * bank.size and len(bank.parts) <= _PARTS:
            return bank
        return type(self)(bank.size, (bank._sample,))

    @property
    def rows(self) -> Float32[Tensor, "m d"]:
        """The rows kept, in the order of their hashes."""
        return self._sample[1]

    @property
    def keys(self) -> tuple[str, ...] | None:
        """The keys of the rows; ``None`` where a sample had none."""
        return self._sample[2]

    @cached_property
    def _sample(self) -> tuple[Int64[Tensor, " m"], Float32[Tensor, "m d"], tuple[str, ...] | None]:
        hashes, order = torch.cat([part[0] for part in self.parts]).sort(stable=True)
        key_tuples = [part[2] for part in self.parts if len(part[0])]
        keys = None if None in key_tuples else [key for part in key_tuples for key in part or ()]
        if keys and bool((hashes[1:] == hashes[:-1]).any()):
            places = order.tolist()
            triples = zip(hashes.tolist(), [keys[i] for i in places], places, strict=True)
            order = order.new_tensor([place for _, _, place in sorted(triples)])
        order = order[: self.size]
        rows = torch.cat([part[1] for part in self.parts])[order]
        if keys is None:
            return hashes[: self.size], rows, None
        return hashes[: self.size], rows, tuple(keys[i] for i in order.tolist())


def _shift(x: Int64[Tensor, " n"], bits: int) -> Int64[Tensor, " n"]:
    """Logical shift to the right, which int64 tensors do not have."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
