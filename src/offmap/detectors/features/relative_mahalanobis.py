"""Mahalanobis distance to the nearest class, relative to that to all classes as one."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._gaussian import whitener
from offmap.detectors._registry import register
from offmap.detectors.features.mahalanobis import Mahalanobis
from offmap.stats import ClassMoments


@register("relativemahalanobis", aliases=("rmd", "rmds"))
class RelativeMahalanobis(Mahalanobis):
    r"""Squared Mahalanobis distance to the nearest class, less that to one Gaussian over all.

    .. math:: s(h) = \min_c\ (h-\mu_c)^\top \Sigma^{-1} (h-\mu_c)
                     - (h-m)^\top \Sigma_0^{-1} (h-m)

    with :math:`m` and :math:`\Sigma_0` the mean and covariance of all training features.

    Args:
        ridge: share of the mean variance added to each variance, in both covariances.
        normalize: divide the features by their norm first: see :class:`RelativeMahalanobisPP`.

    Attributes:
        background_: maps features about the centre to unit total covariance, ``(d, d)``.

    References:
        Ren et al., 2021, arXiv:2106.09022.
    """

    background_: Tensor

    def solve(self, stage: int, stats: ClassMoments) -> None:
        super().solve(stage, stats)
        self.set_buffers(background_=whitener(stats.total().covariance, self.ridge, repr(self)))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = self.read(acts) - self.centre_
        return self.distances(acts).amin(1) - (x @ self.background_).square().sum(1)
