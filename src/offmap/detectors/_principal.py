"""Principal directions, and the features outside of the leading ones."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from offmap._utils.arguments import number
from offmap.errors import ArgumentError, DegenerateError


def check_outside(variances: Float64[Tensor, " d"], dim: int, samples: float, name: str) -> None:
    """Refuse leading directions outside of which the training features do not vary.

    Beyond the rank, the directions are rounding, and the features of ID inputs have no part outside
    them.

    Args:
        variances: along all principal directions, in descending order.
        dim: number of the leading ones.
        samples: number of samples that they come from.
        name: of the detector, for the message.
    """
    features = len(variances)
    rounding = torch.finfo(variances.dtype).eps * features
    rank = int((variances > rounding * variances[0]).sum())
    if rank > dim:
        return
    more = f"give more than {dim + 1} samples" if samples <= dim + 1 else "leave this detector out"
    raise DegenerateError(
        f"{name}: {int(samples)} training samples, {features} features: they span "
        f"{rank} {'direction' if rank == 1 else 'directions'}, and outside of the leading {dim} "
        f"nothing is left: {more}" + (f", or choose dim= below {rank}" if rank > 1 else "")
    )


def number_or_share(dim: int | float) -> int | float:
    """Check a number of directions, or the share of variance that they hold.

    Raises:
        ArgumentError: it is neither.
    """
    real = number("dim", dim, above=0)
    if real > 1 and real != int(real):
        raise ArgumentError(f"dim must be a whole number or a share in (0, 1); seen {dim!r}")
    return real


def leading(variances: Float64[Tensor, " d"], dim: int | float) -> int:
    """The number of directions: as given, or as many as hold a share of the variance.

    Args:
        variances: along all principal directions, in descending order.
        dim: their number, or the share, below 1.
    """
    if dim >= 1:
        return int(dim)
    shares = variances.cumsum(0) / variances.sum()
    return int((shares < dim).sum()) + 1
