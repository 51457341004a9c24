"""Norm of the part of the features outside the principal space."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import whole
from offmap.activations import Activations, Head
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._principal import check_outside
from offmap.detectors._registry import register
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Moments, Statistic

# Rows of a trained head nearly sum to 0: without a floor, pinv would invert that rounding.
_PINV_RTOL = 1e-4


@register("residual")
class Residual(Detector):
    r"""Norm of the part of the features that is orthogonal to the principal space.

    .. math:: s(h) = \| R^\top (h - u) \|, \qquad u = -W^+ b

    The columns of :math:`R` complete the ``dim`` leading eigenvectors of the uncentred second
    moment of the training :math:`h - u`.

    Args:
        dim: dimension of the principal space; by default 1000 where there are 2048 features or
            more, 512 where there are 768 or more, otherwise half of them.

    Attributes:
        origin_: the point that the head maps to zero logits, ``(d,)``.
        residual_: basis of the complement, ``(d, d - dim)``.
        kept_: share of the second moment inside the principal space, ``()``.

    Raises:
        ArgumentError: in fitting, if ``dim`` leaves no residual.
        DegenerateError: in fitting, if the features all lie at the origin, or none of them leaves
            the principal space: there are too few samples, or they vary in few directions.

    References:
        Wang et al., CVPR 2022, arXiv:2203.10807.
    """

    year = 2022
    needs = Needs.FEATURES | Needs.HEAD
    stages: tuple[Stage, ...] = (Stage(),)
    origin_: Tensor
    residual_: Tensor
    kept_: Tensor

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = None if dim is None else whole("dim", dim)

    def bind(self, head: Head) -> None:
        weight = head.weight.double()
        bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.double()
        self.set_buffers(origin_=-torch.linalg.pinv(weight, rtol=_PINV_RTOL) @ bias)

    def collect(
        self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None
    ) -> Statistic:
        return Moments.of(acts.features)

    def solve(self, stage: int, stats: Moments) -> None:
        features = len(stats.mean)
        dim = self.dim
        if dim is None:
            half = max(features // 2, 1)
            dim = 1000 if features >= 2048 else 512 if features >= 768 else half
        if dim >= features:
            raise ArgumentError(
                f"{self!r}: a principal space of {dim} of {features} features leaves no residual: "
                f"choose dim below {features}"
            )
        values, vectors = torch.linalg.eigh(stats.about(self.origin_))  # in ascending order
        if not values[-1] > 0:
            raise DegenerateError(
                f"{self!r}: the training features all lie at the origin u, which the head maps to "
                "zero logits: does the network's last layer read these?"
            )
        check_outside(values.flip(0), dim, float(stats.count), repr(self))
        width = features - dim
        self.set_buffers(residual_=vectors[:, :width], kept_=values[width:].sum() / values.sum())

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.norms(acts)

    def norms(self, acts: Activations) -> Float64[Tensor, " n"]:
        """Norms of the residuals."""
        x = acts.features - self.origin_  # in float64, as the origin is
        norms: Tensor = torch.linalg.vector_norm(x @ self.residual_, dim=1)
        return norms

    def summary(self) -> str:
        features, width = self.residual_.shape
        return (
            f"principal space of {features - width} of {features} dimensions, "
            f"which holds {float(self.kept_):.2%} of the second moment"
        )
