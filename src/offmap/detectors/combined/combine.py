"""Several scores as one, on a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from offmap.detectors._common_scale import How, OnCommonScale
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors.features.mahalanobis import Mahalanobis
from offmap.detectors.logits.energy import Energy
from offmap.errors import ArgumentError


@register("combine")
class Combine(OnCommonScale):
    r"""Several scores, brought to a common scale by *calibration* data, and added up.

    * ``softplus``: mean of :math:`\log(1 + \exp((s_j - \mu_j) / \sigma_j))`, with the mean and
      deviation of each score. It rests on two moments a score, and never ties.
    * ``mean``: mean of these :math:`(s_j - \mu_j) / \sigma_j`.
    * ``fisher``: sum of :math:`u_j = -\log p_j`, with :math:`p_j` the share of calibration scores
      that are as large. Beyond the 90 % quantile an exponential tail with their mean excess takes
      over: a share cannot fall below :math:`1 / (n + 1)`, and far OOD would tie. Where that is the
      highest score too, the tail's mean is how far it lies above the mean score.
    * ``max``: :math:`\max_j u_j`. ``harmonic``: :math:`\log \tfrac1k \sum_j \exp u_j`, minus the
      logarithm of the harmonic mean of the :math:`p_j`.
    * ``mean_rank``: mean of :math:`1 - p_j`, without the tail.

    None of them is a p-value: a guard calibrates the combined score once more, on other samples.

    Args:
        detectors: a list of two or more; they are copied.
        how: one of these.

    Attributes:
        scale_: mean and deviation of each score, ``(k, 2)``, for ``softplus`` and ``mean``; else
            the calibration scores, each row in ascending order, ``(k, n)``.

    Raises:
        DegenerateError: in fitting, if a score does not vary on the calibration data.
    """

    def __init__(self, detectors: Sequence[Detector], how: How = "softplus") -> None:
        if not isinstance(detectors, list | tuple) or len(detectors) < 2:
            raise ArgumentError(
                f"Combine takes a list of two detectors or more; seen {detectors!r}"
            )
        super().__init__(list(detectors), how=how)

    @classmethod
    def default(cls) -> Self:
        """The energy and a Mahalanobis distance: one of the logits and one of the features."""
        return cls([Energy(), Mahalanobis()])

    @property
    def detectors(self) -> list[Detector]:
        """The parts."""
        return list(self.all_parts())

    def summary(self) -> str:
        names = ", ".join(type(part).__name__ for part in self.all_parts())
        return f"{self.how} of {names}"
