"""A few rows at a time, so that wide intermediates fit a bound of memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BYTES = 32 << 20


def by_rows(score: Callable[..., Tensor], columns: int, *arrays: Tensor) -> Tensor:
    """Apply a function to a few rows of the arrays at a time, and join the results.

    Args:
        score: the function, of some rows of each array.
        columns: number of float64 values that it needs for a row.
        arrays: each with the same number of rows.
    """
    # A graph has no loop over parts, whose number would depend on the batch.
    if torch.compiler.is_exporting():
        return score(*arrays)
    rows = max(1, _BYTES // (8 * columns))
    parts = zip(*(torch.split(x, rows) for x in arrays), strict=True)
    return torch.cat([score(*part) for part in parts])
