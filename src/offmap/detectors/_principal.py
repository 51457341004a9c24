"""Principal directions, and what lies outside them."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from offmap._utils.arguments import number
from offmap.errors import ArgumentError, DegenerateError


def check_outside(variances: Float64[Tensor, " d"], dim: int, samples: float, who: str) -> None:
    """Refuse leading directions outside of which the training features do not vary.

    Which directions those would be beyond the rank is rounding, and what lies outside them is
    nothing for whatever the network makes of known inputs.

    Args:
        variances: along all principal directions, in descending order.
        dim: how many of them lead.
        samples: that they come from.
        who: asks.
    """
    features = len(variances)
    rounding = torch.finfo(variances.dtype).eps * features
    rank = int((variances > rounding * variances[0]).sum())
    if rank > dim:
        return
    more = f"give more than {dim + 1} samples" if samples <= dim + 1 else "leave this detector out"
    raise DegenerateError(
        f"{who}: {int(samples)} training samples, {features} features: they span "
        f"{rank} {'direction' if rank == 1 else 'directions'}, and outside of the leading {dim} "
        f"nothing is left: {more}" + (f", or choose dim= below {rank}" if rank > 1 else "")
    )


def number_or_share(dim: int | float) -> int | float:
    """How many directions: a whole number, or the share of variance that they hold.

    Raises:
        ArgumentError: it is neither.
    """
    real = number("dim", dim, above=0)
    if real > 1 and real != int(real):
        raise ArgumentError(f"dim must be a whole number or a share in (0, 1); seen {dim!r}")
    return real


def leading(variances: Float64[Tensor, " d"], dim: int | float) -> int:
    """How many directions: so many, or as many as hold a share of the variance.

    Args:
        variances: along all principal directions, in descending order.
        dim: their number, or the share, below 1.
    """
    if dim >= 1:
        return int(dim)
    held = variances.cumsum(0) / variances.sum()
    return int((held < dim).sum()) + 1
