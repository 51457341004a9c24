"""Scaling of the logits by a share that each sample has of its own."""

from __future__ import annotations

from jaxtyping import Float64
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.detectors._registry import register
from offmap.detectors.gradients._adascale import AdaSCALE


@register("adascalel")
class AdaSCALEL(AdaSCALE):
    r"""The logits times a ratio squared, which is that of :class:`AdaSCALEA`.

    .. math:: z' = r^2 z

    Features stay as they are, so that a score of features alone is not changed.

    Args:
        inner: the detector that scores the scaled activations.
        least: the smallest share of the features that does not count as large.
        most: the largest one. The paper chooses both on OOD data.
        k1: a share of the features; the same in fitting and scoring.
        k2: likewise.
        factor: of the shift.
        moved: share of the input's values that are moved.
        magnitude: of the step, as for :class:`AdaSCALEA`.
        samples: calibration samples to keep at most.

    Attributes:
        shifts_: of calibration samples, in ascending order, ``(m,)``.

    Raises:
        ArgumentError: ``inner`` needs inputs, or learns on training data.
        NeedsError: in scoring, if the logits have no gradient with respect to the inputs.

    References:
        Regmi, 2025, arXiv:2503.08023; the values of its code in OpenOOD, ``adascale_l.yml``.
    """

    def scaled(self, acts: Activations, head: Head, ratio: Float64[Tensor, "n 1"]) -> Activations:
        return acts.replace(logits=(head(acts.features.float()).double() * ratio.square()).float())
