"""Whitening, and distances in the whitened space."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from offmap.errors import DegenerateError


def whitener(covariance: Float64[Tensor, "d d"], ridge: float, who: str) -> Float64[Tensor, "d d"]:
    """The matrix ``W`` with ``W W' = inverse of (covariance + ridge * mean diagonal * I)``.

    The ridge is relative: an absolute one would change ranks with the scale of the features.
    """
    size = ridge * covariance.diagonal().mean()
    shifted = covariance + size * torch.eye(len(covariance)).to(covariance)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if failed or not factor.isfinite().all():
        raise DegenerateError(
            f"{who}: the covariance of {len(covariance)} features has no inverse (mean variance "
            f"{covariance.diagonal().mean():.3g}): fit on more samples, or raise ridge"
        )
    identity = torch.eye(len(covariance)).to(covariance)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.T.contiguous()


def squared_distances(
    x: Float64[Tensor, "n d"], centres: Float64[Tensor, "k d"]
) -> Float64[Tensor, "n k"]:
    """Squared Euclidean distances, as products: no ``(n, k, d)`` array, and they export."""
    squares = x.square().sum(1, keepdim=True) + centres.square().sum(1)
    return (squares - 2 * x @ centres.T).clamp(min=0)
