"""A few rows at a time, so that what is wide fits a bound of memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BYTES = 32 << 20


def by_rows(score: Callable[..., Tensor], columns: int, *arrays: Tensor) -> Tensor:
    """What a function gives of a few rows of the arrays at a time, joined.

    Args:
        score: of some rows of each array.
        columns: float64 numbers that it needs for a row.
        arrays: of as many rows each.
    """
    # A graph has no loop over parts, whose number would depend on the batch.
    if torch.compiler.is_exporting():
        return score(*arrays)
    rows = max(1, _BYTES // (8 * columns))
    parts = zip(*(torch.split(x, rows) for x in arrays), strict=True)
    return torch.cat([score(*part) for part in parts])
