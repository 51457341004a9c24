"""Simplified Hopfield energy."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.errors import DegenerateError
from offmap.stats import ClassMeans


@register("she")
class SHE(Detector):
    r"""Minus the product of the features with the pattern of the predicted class.

    .. math:: s(h, z) = -\langle h, s_{\hat y} \rangle

    with :math:`s_c` the mean features of the training samples of class :math:`c` that are *rightly*
    predicted. Where none of a class is, the mean of all rightly predicted samples stands for it.

    Attributes:
        patterns_: :math:`s_c`, ``(c, d)``.

    Raises:
        DegenerateError: in fitting, if no sample is rightly predicted, or all their features are 0.

    References:
        Zhang et al., ICLR 2023, "Out-of-distribution detection based on in-distribution data
        patterns memorization with modern Hopfield energy".
    """

    needs = Needs.LOGITS | Needs.FEATURES
    stages = (Stage(labels=True),)
    year = 2023
    suits = "convolutional networks, whose features are longer for what they know"
    patterns_: Tensor

    def collect(self, stage: int, acts: Activations, labels: Any) -> ClassMeans:
        right = acts.logits.argmax(1) == labels
        classes = acts.logits.shape[1]
        return ClassMeans.of(acts.features[right], labels[right], classes=classes)

    def solve(self, stage: int, stats: ClassMeans) -> None:
        count = stats.count.sum()
        if not count > 0:
            raise DegenerateError(
                f"{self!r}: no training sample is predicted as its label says, and the patterns "
                "are means of those that are: give the network's own classes as labels"
            )
        if not stats.mean.any():
            raise DegenerateError(
                f"{self!r}: the features of all {int(count)} rightly predicted training samples "
                "are 0: does the network's last layer read these?"
            )
        overall = (stats.count @ stats.mean) / count
        self.set_buffers(patterns_=stats.mean.where(stats.count[:, None] > 0, overall))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return -(acts.features.double() * self.patterns_[acts.logits.argmax(1)]).sum(1)

    def summary(self) -> str:
        classes, features = self.patterns_.shape
        return f"patterns of {classes} classes of {features} features"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * classes * features
