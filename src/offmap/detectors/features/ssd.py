"""Mahalanobis distance to all features as one, on the sphere."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

from offmap._utils.arguments import share
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._directions import check_directions, directions
from offmap.detectors._gaussian import deviations, whitener
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.stats import Moments


@register("ssd")
class SSD(Detector):
    r"""Squared Mahalanobis distance of the normalised features to one Gaussian. It needs no labels.

    .. math:: s(h) = (x - m)^\top \Sigma^{-1} (x - m), \qquad x = h / \|h\|

    with :math:`m` and :math:`\Sigma` the mean and covariance of all normalised training features.
    Features of norm 0 stay 0.

    Args:
        ridge: share of each feature's variance that is added to it, in [0, 1). After normalising,
            the covariance has a direction of almost no variance.

    Attributes:
        centre_: :math:`m`, ``(d,)``.
        whitener_: maps features to unit covariance, ``(d, d)``.

    Raises:
        DegenerateError: in fitting, if no feature varies, or without a ridge one is a combination
            of others.
        ShapeError: in fitting, of a single feature.

    References:
        Sehwag, Chiang and Mittal, ICLR 2021, arXiv:2103.12051; with one cluster.
    """

    needs = Needs.FEATURES
    stages = (Stage(),)
    year = 2021
    suits = "any network with features, self-supervised ones too"
    centre_: Tensor
    whitener_: Tensor

    def __init__(self, *, ridge: float = 1e-6) -> None:
        super().__init__()
        self.ridge = share("ridge", ridge)

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Moments:
        return Moments.of(directions(acts.features))

    def solve(self, stage: int, stats: Moments) -> None:
        check_directions(len(stats.mean), repr(self))
        deviation = deviations(stats, repr(self))
        white = whitener(stats.covariance, deviation, self.ridge, repr(self))
        self.set_buffers(centre_=stats.mean, whitener_=white)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = directions(acts.features) - self.centre_
        return (x @ self.whitener_).square().sum(1)

    def summary(self) -> str:
        return f"one Gaussian of {len(self.centre_)} features of norm 1"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * features**2
