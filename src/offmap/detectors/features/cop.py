"""Reconstruction error of a principal component analysis of normalised features."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._chunks import by_rows
from offmap.detectors._detector import Detector
from offmap.detectors._directions import check_directions, directions
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._principal import check_outside, leading, number_or_share
from offmap.detectors._registry import register
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Moments


@register("cop")
class CoP(Detector):
    r"""Distance from the normalised features to their reconstruction by principal components.

    .. math:: s(h) = \big\| (I - U U^\top) (x - \bar x) \big\|, \qquad x = \frac{h}{\|h\|}

    with :math:`\bar x` the mean and :math:`U` the leading principal directions of the normalised
    training features: kernel PCA with the cosine kernel. Features of norm 0 stay 0.

    Args:
        dim: number of directions, or the share of variance that they must hold, in (0, 1). The
            published code chose it for each network: 0.85 for a ResNet-18 on CIFAR-10, the default,
            and 0.99 for a ResNet-50 on ImageNet.

    Attributes:
        mean_: mean of the analysed features, ``(d,)``.
        directions_: their leading principal directions, ``(d, dim)``.
        kept_: share of the variance along them, ``()``.

    Raises:
        ArgumentError: in fitting, if ``dim`` leaves no direction out.
        DegenerateError: in fitting, if the normalised features do not vary, or not outside of the
            directions.

    References:
        Fang et al., NeurIPS 2024, arXiv:2402.02949, algorithm 1.
    """

    year = 2024
    needs = Needs.FEATURES
    stages = (Stage(),)
    mean_: Tensor
    directions_: Tensor
    kept_: Tensor

    def __init__(self, dim: int | float = 0.85) -> None:
        super().__init__()
        self.dim = number_or_share(dim)

    def read(self, features: Float[Tensor, "n d"]) -> Float64[Tensor, "n m"]:
        """The features that are analysed: normalised."""
        return directions(features)

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Any:
        check_directions(acts.features.shape[1], repr(self))
        return Moments.of(self.read(acts.features))

    def solve(self, stage: int, stats: Any) -> None:
        if stats.constant.all():
            raise DegenerateError(
                f"{self!r}: the normalised training features are one point: give more samples"
            )
        values, vectors = torch.linalg.eigh(stats.covariance)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        dim = leading(values, self.dim)
        if dim >= len(values):
            raise ArgumentError(
                f"{self!r}: all {len(values)} directions are kept, so that nothing is left to "
                f"score: choose dim below {len(values)}"
            )
        check_outside(values, dim, float(stats.count), repr(self))
        self.set_buffers(
            mean_=stats.mean,
            directions_=vectors[:, :dim],
            kept_=values[:dim].sum() / values.sum(),
        )

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return by_rows(self._errors, 4 * len(self.mean_), acts.features)

    def _errors(self, features: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        x = self.read(features) - self.mean_
        residual = x - (x @ self.directions_) @ self.directions_.T
        errors: Tensor = torch.linalg.vector_norm(residual, dim=1)
        return errors

    def summary(self) -> str:
        features, dim = self.directions_.shape
        return f"{dim} of {features} principal directions, with {float(self.kept_):.2%} of variance"

    def footprint(self, classes: int, features: int) -> int:
        return 16 * features * features
