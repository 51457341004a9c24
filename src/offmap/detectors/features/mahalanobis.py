"""Mahalanobis distance to the nearest class mean."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Float64
from torch import Tensor

from offmap._utils.arguments import flag, number
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._directions import check_directions, directions
from offmap.detectors._gaussian import deviations, squared_distances, whitener
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.stats import ClassMoments, Moments


@register("mahalanobis", aliases=("mds",))
class Mahalanobis(Detector):
    r"""Squared Mahalanobis distance from the features to the nearest class mean.

    .. math:: s(h) = \min_c\ (h - \mu_c)^\top \Sigma^{-1} (h - \mu_c)

    with one covariance for all classes: the pooled within-class scatter divided by the number of
    samples. Classes without samples are left out. With fewer samples than features there are
    directions without variance, and distances along them rest on ``ridge`` alone.

    Args:
        ridge: share of each feature's variance that is added to it. A constant feature counts as
            varying by this share of the others' median variance.
        normalize: divide the features by their norm first: see :class:`MahalanobisPP`.

    Attributes:
        centre_: mean of all features, ``(d,)``.
        whitener_: maps features to unit within-class covariance, ``(d, d)``.
        centres_: whitened class means about the centre, ``(c, d)``.

    Raises:
        DegenerateError: in fitting, if no feature varies within a class, or without a ridge one is
            a combination of others.

    References:
        Lee et al., NeurIPS 2018, arXiv:1807.03888, equation 2, without its input perturbation.
    """

    year = 2018
    needs = Needs.FEATURES
    stages = (Stage(labels=True),)
    centre_: Tensor
    whitener_: Tensor
    centres_: Tensor

    def __init__(self, *, ridge: float = 1e-6, normalize: bool = False) -> None:
        super().__init__()
        self.ridge = number("ridge", ridge, least=0)
        self.normalize = flag("normalize", normalize)

    def collect(self, stage: int, acts: Activations, labels: Any) -> ClassMoments:
        classes = acts.logits.shape[1] if acts.has_logits else None
        return ClassMoments.of(self.read(acts), labels, classes=classes)

    def solve(self, stage: int, stats: ClassMoments) -> None:
        if self.normalize:
            check_directions(stats.mean.shape[1], repr(self))
        centre = stats.total().mean
        whiten = self._whitener(stats)
        classes = stats.count > 0  # one without samples would leave a false centre at the origin
        self.set_buffers(
            centre_=centre, whitener_=whiten, centres_=(stats.mean[classes] - centre) @ whiten
        )

    def _whitener(self, stats: Moments | ClassMoments) -> Float64[Tensor, "d d"]:
        deviation = deviations(stats, repr(self))
        return whitener(stats.covariance, deviation, self.ridge, repr(self))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.distances(acts).amin(1)

    def read(self, acts: Activations) -> Float64[Tensor, "n d"]:
        """The features that it models: of norm 1 if they are normalised."""
        return directions(acts.features) if self.normalize else acts.features.double()

    def distances(self, acts: Activations) -> Float64[Tensor, "n c"]:
        """Squared distances to the means of the classes seen in fitting."""
        # In float64: tight classes far from the origin lose every digit in float32.
        x = self.read(acts) - self.centre_
        return squared_distances(x @ self.whitener_, self.centres_)

    def summary(self) -> str:
        classes, features = self.centres_.shape
        norm = " of norm 1" if self.normalize else ""
        return f"means of {classes} classes and one covariance of {features} features{norm}"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * features * (features + classes)
