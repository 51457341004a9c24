"""Mahalanobis distance to the nearest class, relative to that to all classes as one."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._registry import register
from offmap.detectors.features.mahalanobis import Mahalanobis
from offmap.errors import DegenerateError
from offmap.stats import ClassMoments


@register("relativemahalanobis", aliases=("rmd", "rmds"))
class RelativeMahalanobis(Mahalanobis):
    r"""Squared Mahalanobis distance to the nearest class, less that to one Gaussian over all.

    .. math:: s(h) = \min_c\ (h-\mu_c)^\top \Sigma^{-1} (h-\mu_c)
                     - (h-m)^\top \Sigma_0^{-1} (h-m)

    with :math:`m` and :math:`\Sigma_0` the mean and covariance of all training features.

    Args:
        ridge: share of each feature's variance that is added to it, in both covariances.
        normalize: divide the features by their norm first: see :class:`RelativeMahalanobisPP`.

    Attributes:
        background_: maps features about the centre to unit total covariance, ``(d, d)``.

    Raises:
        DegenerateError: in fitting, if all samples are of one class.

    References:
        Ren et al., 2021, arXiv:2106.09022.
    """

    year = 2021
    background_: Tensor

    def solve(self, stage: int, stats: ClassMoments) -> None:
        if int((stats.count > 0).sum()) < 2:
            raise DegenerateError(
                f"{self!r}: all {int(stats.count.sum())} training samples are of one class, and "
                "the distance to it, relative to that to all classes as one, is 0 whatever the "
                "sample: use Mahalanobis, or fit on samples of several classes"
            )
        super().solve(stage, stats)
        self.set_buffers(background_=self._whitener(stats.total()))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = self.read(acts) - self.centre_
        return self.distances(acts).amin(1) - (x @ self.background_).square().sum(1)
