"""Scaling of the features by a share that each sample has of its own."""

from __future__ import annotations

from jaxtyping import Float64
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.detectors._registry import register
from offmap.detectors.gradients._adascale import AdaSCALE


@register("adascalea", aliases=("adascale",))
class AdaSCALEA(AdaSCALE):
    r"""SCALE, with the share of the features that count as large set by how they shift.

    .. math:: h' = h\, e^r, \qquad z' = W h' + b, \qquad
              r = \frac{\sum_i \max(h_i, 0)}{\sum_{i \in \mathrm{top}(1 - q)} \max(h_i, 0)}, \qquad
              q = q_0 + (1 - F(Q))\, (q_1 - q_0)

    .. math:: Q = \sum_{i \in \mathrm{top}(k_1)} \max(\tilde h_i, 0)
                  + \lambda \sum_{i \in \mathrm{top}(k_2)} |h_i - \tilde h_i|

    with :math:`\tilde h` the features after a step that raises the largest logit, of the 5 % of the
    input's values on which it depends least, and :math:`F` the share of *calibration* samples whose
    :math:`Q` is no larger. Both sums are over the largest of the features before the step; each has
    at least one. What shifts much is scaled less. The network runs twice more, once with gradients.

    Args:
        inner: the detector that scores the scaled activations.
        least: :math:`q_0`, the smallest share of the features that does not count as large.
        most: :math:`q_1`, the largest one. The paper chooses both on OOD data.
        k1: a share of the features; the same in fitting and scoring.
        k2: likewise.
        factor: :math:`\lambda`.
        moved: share of the input's values that are moved.
        magnitude: of the step, of the range of pixels if the images are uint8, else in the units
            of the inputs. The published code moves normalised images by 0.5, which is about this
            in pixels: their deviations are near 0.25.
        samples: calibration samples to keep at most.

    Attributes:
        shifts_: :math:`Q` of calibration samples, in ascending order, ``(m,)``.

    Raises:
        ArgumentError: ``inner`` needs inputs, or learns on training data.
        NeedsError: in scoring, if the logits have no gradient with respect to the inputs.

    References:
        Regmi, 2025, arXiv:2503.08023; the values of its code in OpenOOD, ``adascale_a.yml``. One
        version of the code exchanges the two shares between fitting and scoring.
    """

    def scaled(self, acts: Activations, head: Head, ratio: Float64[Tensor, "n 1"]) -> Activations:
        features = (acts.features.double() * ratio.exp()).float()
        return acts.replace(logits=head(features), features=features)
