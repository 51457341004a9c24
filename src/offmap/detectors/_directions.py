"""Features of norm 1."""

from __future__ import annotations

from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from offmap.errors import ShapeError


def directions(features: Float[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
    """The features divided by their norm; those of norm 0 stay 0."""
    return F.normalize(features.double())


def check_directions(features: int, name: str) -> None:
    """Refuse a single feature, whose direction is its sign alone."""
    if features < 2:
        raise ShapeError(
            f"{name}: the data has 1 feature(s), and divided by its norm a single feature is 1, 0 "
            "or -1, so that nearly all samples score alike: use a detector that keeps norms, such "
            "as Mahalanobis"
        )
