"""Neural-collapse inspired score."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import flag, one_of
from offmap.activations import Activations
from offmap.detectors._confidences import check_confidence
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._principal import check_outside, leading, number_or_share
from offmap.detectors._registry import register
from offmap.errors import ArgumentError, DegenerateError, UnknownNameError
from offmap.stats import Mean, Moments, Product

_PRESETS: dict[str, dict[str, Any]] = {
    "vit": {},
    "resnet": {"times_max_logit": False},
    "deit": {"denominator": "raw"},
    "swin": {"denominator": "raw"},
    "cifar_vit": {"scale": False},
}


@register("neco")
class NECO(Detector):
    r"""Share of the features' norm inside the leading principal directions, negated.

    .. math:: s(h, z) = -\frac{\| P^\top x \|}{\| x \|} \max_j z_j

    with :math:`x` the standardised features and :math:`P` the leading principal directions of the
    standardised training features. The published code switches its parts by backbone; each is an
    argument here, :meth:`preset` sets them together, and the results differ by many points. A
    maximum logit below 0 turns the share round: where it is not positive on average over the
    training data, as of logarithms of probabilities, a fit is refused.

    Args:
        dim: number of directions, or the share of variance that they must hold, in (0, 1);
            by default 100, or half of the features where that is fewer.
        scale: standardise the features; else they are used as they are.
        center: subtract their mean before projecting. Standardised features have mean 0.
        denominator: the norm below the line is that of these features: "scaled" as above, or "raw".
        times_max_logit: multiply by the maximum logit.

    Attributes:
        mean_: mean of the features, ``(d,)``.
        deviation_: their standard deviations, ``(d,)``; 1 if not scaled or constant.
        directions_: principal directions, ``(d, dim)``.
        kept_: share of the variance along them, ``()``.

    Raises:
        DegenerateError: in fitting, if the features do not vary, or not outside of the directions;
            or the maximum logit, where it is a factor, is not positive on average.

    References:
        Ammar et al., ICLR 2024, arXiv:2310.06823.
    """

    year = 2024
    needs = Needs.LOGITS | Needs.FEATURES
    stages = (Stage(),)
    mean_: Tensor
    deviation_: Tensor
    directions_: Tensor
    kept_: Tensor

    def __init__(
        self,
        dim: int | float | None = None,
        *,
        scale: bool = True,
        center: bool = True,
        denominator: Literal["scaled", "raw"] = "scaled",
        times_max_logit: bool = True,
    ) -> None:
        super().__init__()
        self.dim = None if dim is None else number_or_share(dim)
        self.scale = flag("scale", scale)
        self.center = flag("center", center)
        self.denominator = one_of("denominator", denominator, ("scaled", "raw"))
        self.times_max_logit = flag("times_max_logit", times_max_logit)

    @classmethod
    def preset(cls, backbone: str, dim: int | float | None = None) -> Self:
        """The variant that the published code uses for a backbone.

        * ``vit``: the default one. ``resnet``: ``times_max_logit=False``.
        * ``deit``, ``swin``: ``denominator="raw"``.
        * ``cifar_vit``: ``scale=False``, which its remarks recommend where classes are collapsed.

        Args:
            backbone: one of these.
            dim: as in the constructor; the published code has one for each pair of data sets.

        Raises:
            UnknownNameError: no such backbone.

        >>> NECO.preset("resnet", dim=9)
        NECO(dim=9, scale=True, center=True, denominator='scaled', times_max_logit=False)
        """
        if backbone not in _PRESETS:
            raise UnknownNameError(f"no preset {backbone!r}: there are {', '.join(_PRESETS)}")
        return cls(dim, **_PRESETS[backbone])

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Product:
        return Product((Moments.of(acts.features), Mean.of(acts.logits.amax(1, keepdim=True))))

    def solve(self, stage: int, stats: Any) -> None:
        stats, largest = stats.parts
        covariance, constant = stats.covariance, stats.constant
        if constant.all():
            raise DegenerateError(
                f"{self!r}: the training features are one point: give more samples"
            )
        if self.times_max_logit:
            instead = "NECO(times_max_logit=False)"
            check_confidence(float(largest.mean), repr(self), instead, "max_logit")
        deviation = covariance.diagonal().sqrt().masked_fill(constant, 1.0)
        if not self.scale:
            deviation = torch.ones_like(deviation)
        values, vectors = torch.linalg.eigh(covariance / deviation.outer(deviation))
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        dim = self._dim(values)
        check_outside(values, dim, float(stats.count), repr(self))
        self.set_buffers(
            mean_=stats.mean,
            deviation_=deviation,
            directions_=vectors[:, :dim],
            kept_=values[:dim].sum() / values.sum(),
        )

    def _dim(self, values: Float64[Tensor, " d"]) -> int:
        """How many directions, given the variances along all in descending order."""
        features = len(values)
        dim = min(100, max(features // 2, 1)) if self.dim is None else self.dim
        dim = leading(values, dim)
        if dim >= features:
            raise ArgumentError(
                f"{self!r}: all directions of {features} features are kept, so the share of the "
                "norm is always 1: "
                + (f"choose dim below {features}" if features > 1 else "use another")
            )
        return dim

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        raw = acts.features.double()
        x = (raw - self.mean_) / self.deviation_ if self.scale else raw
        inside = x - self.mean_ if self.center and not self.scale else x
        below = (x if self.denominator == "scaled" else raw).square().sum(1).sqrt()
        above = (inside @ self.directions_).square().sum(1).sqrt()
        # A sample of norm 0 has no direction: its share counts as 0.
        share = torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0)
        return -share * acts.logits.amax(1) if self.times_max_logit else -share

    def summary(self) -> str:
        features, dim = self.directions_.shape
        return f"{dim} of {features} principal directions, with {float(self.kept_):.2%} of variance"
