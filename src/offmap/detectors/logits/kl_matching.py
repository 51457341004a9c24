"""Divergence from the mean posterior of each class."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Stage
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes
from offmap.stats import ClassMeans


@register("klmatching", aliases=("klm",))
class KLMatching(Detector):
    r"""Kullback-Leibler divergence to the nearest of the classes' mean posteriors.

    .. math:: s(z) = \min_k \sum_j p_j \log \frac{p_j}{d_{kj}}

    with :math:`d_k` the mean of :math:`p` over the *calibration* samples that are predicted as
    class :math:`k`. Classes that none is predicted as are left out.

    Attributes:
        log_means_: logarithms of these means, ``(k, c)``.

    References:
        Hendrycks et al., ICML 2022, arXiv:1911.11132, section 4.
    """

    year = 2022
    stages = (Stage("calibration"),)
    log_means_: Tensor

    def collect(
        self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None
    ) -> ClassMeans:
        check_classes(acts.logits)
        p = acts.logits.double().softmax(1)
        return ClassMeans.of(p, p.argmax(1), classes=p.shape[1])

    def solve(self, stage: int, stats: ClassMeans) -> None:
        means = stats.mean[stats.count > 0]
        self.set_buffers(log_means_=means.clamp(min=torch.finfo(means.dtype).tiny).log())

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        log_p = acts.logits.double().log_softmax(1)
        p = log_p.exp()
        return (p * log_p).sum(1) - (p @ self.log_means_.T).amax(1)

    def summary(self) -> str:
        return f"mean posteriors of {len(self.log_means_)} predicted classes"
