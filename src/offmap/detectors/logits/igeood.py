"""Fisher-Rao distances to the classes' mean posteriors."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import positive
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Stage
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes
from offmap.errors import DegenerateError
from offmap.stats import ClassMeans


@register("igeood")
class IGEOOD(Detector):
    r"""Minus the mean Fisher-Rao distance between the softmax and those of the classes' centres.

    .. math:: s(z) = -\frac1C \sum_c 2 \arccos \sum_k \sqrt{p_k q_{ck}}, \qquad
              p = \mathrm{softmax}(z / T), \quad q_c = \mathrm{softmax}(\bar z_c / T)

    with :math:`\bar z_c` the mean logits of the training samples of class :math:`c`. A confident
    softmax lies at one centre and far from all others; an undecided one lies between them, nearer
    to them on average. So the mean distance is large for ID, and the score is minus it. Classes
    without samples are left out.

    Args:
        temperature: divides the logits; positive. The paper tunes it for each network on OOD data;
            1 is tuned on nothing.

    Attributes:
        roots_: square roots of the centres' probabilities, ``(k, c)``.

    Raises:
        DegenerateError: in fitting, if the samples are of fewer than two classes.

    References:
        Gomes, Alberge, Duhamel and Piantanida, ICLR 2022, arXiv:2203.07798: the score
        of logits alone. The published code moves the centres from the unit vectors by gradient
        steps.
    """

    stages = (Stage(labels=True),)
    year = 2022
    roots_: Tensor

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)

    def collect(self, stage: int, acts: Activations, labels: Any) -> ClassMeans:
        check_classes(acts.logits)
        return ClassMeans.of(acts.logits, labels, classes=acts.logits.shape[1])

    def solve(self, stage: int, stats: ClassMeans) -> None:
        centres = stats.mean[stats.count > 0]
        if len(centres) < 2:
            raise DegenerateError(
                f"{self!r}: all {int(stats.count.sum())} training samples are of one class, and "
                "the score is how far a sample lies from the other ones: fit on samples of several "
                "classes"
            )
        self.set_buffers(roots_=self._roots(centres))

    def _roots(self, logits: Tensor) -> Tensor:
        """Square roots of the probabilities: unit vectors."""
        return (0.5 * (logits.double() / self.temperature).log_softmax(1)).exp()

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        # From the chord of the two unit vectors: the arc cosine has half of the digits near 1. It
        # is at most a quarter circle, so the arc sine keeps float32's, which is all that graphs
        # have of it.
        cosine = self._roots(acts.logits) @ self.roots_.T
        chord = (2 - 2 * cosine).clamp(min=0).sqrt()
        return -4 * torch.asin((chord / 2).float()).double().mean(1)

    def summary(self) -> str:
        return f"mean posteriors of {len(self.roots_)} classes"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * classes**2
