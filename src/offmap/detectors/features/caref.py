"""Relative distance to the mean features of the predicted class."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.stats import ClassMeans

# Keeps the division finite for features that are all 0, which score highest.
_SMALLEST = 1e-12


@register("caref")
class CARef(Detector):
    r"""Distance from the features to the mean of the predicted class, relative to their size.

    .. math:: s(h) = \frac{\| h - \mu_{\hat y} \|_1}{\| h \|_1}, \qquad \hat y = \arg\max_j z_j

    with :math:`\mu_c` the mean of the training features that are *predicted* as class :math:`c`;
    labels are not read. A class that no training sample is predicted as has the mean of all. It
    has no parameter, and suits any network whose features differ in size.

    Attributes:
        centres_: mean features by predicted class, ``(c, d)``.

    References:
        Ling et al., CVPR 2025, arXiv:2503.00325.
    """

    year = 2025
    needs = Needs.LOGITS | Needs.FEATURES
    stages: tuple[Stage, ...] = (Stage(),)
    centres_: Tensor

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Any:
        return self._centres(acts)

    def _centres(self, acts: Activations) -> ClassMeans:
        classes = acts.logits.shape[1]
        return ClassMeans.of(acts.features, acts.logits.argmax(1), classes=classes)

    def solve(self, stage: int, stats: Any) -> None:
        overall = stats.count @ stats.mean / stats.count.sum()
        predicted = (stats.count > 0)[:, None]
        self.set_buffers(centres_=torch.where(predicted, stats.mean, overall))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        distance: Tensor = torch.linalg.vector_norm(self.relative(acts), 1, dim=1)
        return distance / self.sizes(acts)

    def relative(self, acts: Activations) -> Float64[Tensor, "n d"]:
        """The features about the mean of the predicted class."""
        return acts.features.double() - self.centres_[acts.logits.argmax(1)]

    def sizes(self, acts: Activations) -> Float64[Tensor, " n"]:
        """The features' sums of absolute values."""
        sizes: Tensor = torch.linalg.vector_norm(acts.features.double(), 1, dim=1)
        return sizes.clamp(min=_SMALLEST)

    def summary(self) -> str:
        classes, features = self.centres_.shape
        return f"means of {features} features by predicted class, {classes} of them"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * classes * features
