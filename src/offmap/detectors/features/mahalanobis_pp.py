"""The two Mahalanobis distances on normalised features."""

from __future__ import annotations

from offmap.detectors._registry import register
from offmap.detectors.features.mahalanobis import Mahalanobis
from offmap.detectors.features.relative_mahalanobis import RelativeMahalanobis


@register("mahalanobispp", aliases=("mahalanobis++", "mds++"))
class MahalanobisPP(Mahalanobis):
    r"""Squared Mahalanobis distance of the normalised features to the nearest class mean.

    :class:`Mahalanobis` of :math:`h / \|h\|`, which takes the norm of the features out of the
    distance: it is ``Mahalanobis(normalize=True)``. Features of norm 0 stay 0.

    Args:
        ridge: share of each feature's variance that is added to it. After normalising, the
            covariance has a direction of almost no variance.

    References:
        Mueller and Hein, ICML 2025, arXiv:2505.18032.
    """

    year = 2025

    def __init__(self, *, ridge: float = 1e-6) -> None:
        super().__init__(ridge=ridge, normalize=True)


@register("relativemahalanobispp", aliases=("relativemahalanobis++", "rmds++"))
class RelativeMahalanobisPP(RelativeMahalanobis):
    r"""The relative Mahalanobis distance of the normalised features.

    :class:`RelativeMahalanobis` of :math:`h / \|h\|`: ``RelativeMahalanobis(normalize=True)``.

    Args:
        ridge: share of each feature's variance that is added to it, in both covariances.

    References:
        Mueller and Hein, ICML 2025, arXiv:2505.18032.
    """

    year = 2025

    def __init__(self, *, ridge: float = 1e-6) -> None:
        super().__init__(ridge=ridge, normalize=True)
