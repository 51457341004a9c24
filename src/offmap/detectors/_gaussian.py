"""Whitening, and distances in the whitened space."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from offmap.errors import DegenerateError
from offmap.stats import ClassMoments, Moments


def deviations(stats: Moments | ClassMoments, name: str) -> Float64[Tensor, " d"]:
    """Standard deviation of each feature; of a constant one, the median of the others'."""
    constant = stats.constant
    if constant.all():
        classes = isinstance(stats, ClassMoments)
        raise DegenerateError(
            f"{name}: none of the {len(constant)} features varies{' within a class' * classes} "
            f"over {int(stats.count.sum())} training samples: fit on more of them"
        )
    deviation = stats.covariance.diagonal().sqrt()
    return deviation.where(~constant, deviation[~constant].median())


def whitener(
    covariance: Float64[Tensor, "d d"],
    deviation: Float64[Tensor, " d"],
    ridge: float,
    name: str,
) -> Float64[Tensor, "d d"]:
    """The matrix ``W`` with ``W W'`` the inverse of a covariance, regularised.

    What is inverted is ``covariance + ridge * m * diag(deviation ** 2)``, with ``m`` the mean over
    the features of ``variance / deviation ** 2``. So each feature is regularised on its own scale:
    a share of the mean variance would drown the features of a small unit.
    """
    standard = covariance / deviation.outer(deviation)
    identity = torch.eye(len(standard), device="cpu").to(standard)
    shifted = standard + ridge * standard.diagonal().mean() * identity
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if failed or not factor.isfinite().all():
        raise DegenerateError(
            f"{name}: the covariance of {len(covariance)} features has no inverse: fit on more "
            "samples than features, or raise ridge"
        )
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return (inverse / deviation).T.contiguous()


def squared_distances(
    x: Float64[Tensor, "n d"], centres: Float64[Tensor, "k d"]
) -> Float64[Tensor, "n k"]:
    """Squared Euclidean distances, as products: no ``(n, k, d)`` array, and they export."""
    squares = x.square().sum(1, keepdim=True) + centres.square().sum(1)
    return (squares - 2 * x @ centres.T).clamp(min=0)
