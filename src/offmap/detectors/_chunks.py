"""A few rows at a time, so that intermediates fit a bound of memory, or the processor's cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations, Sample

_BYTES = 32 << 20
# What a score computes of more rows does not stay in a processor's cache, and takes up to five
# times as long.
_ROWS = 2048


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


def in_parts(
    score: Callable[..., Float[Tensor, " n"]], batch: Activations | Sample
) -> Float[Tensor, " n"]:
    """The score of a batch, float32; of many activations on a processor some rows at a time."""
    if isinstance(batch, Sample) or len(batch) <= _ROWS or batch.device.type != "cpu":
        return score(batch).float()
    parts = (batch[i : i + _ROWS] for i in range(0, len(batch), _ROWS))
    return torch.cat([score(part).float() for part in parts])
