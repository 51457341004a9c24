"""Regret of the last layer under predictive normalised maximum likelihood."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap.activations import Activations, Head
from offmap.detectors._detector import Detector
from offmap.detectors._directions import directions
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes, log_softmax
from offmap.errors import DegenerateError
from offmap.stats import Moments


@register("pnml")
class PNML(Detector):
    r"""Regret of the last layer: how far each class could be made likely by learning this sample.

    .. math:: s(h) = \frac{1}{\log c} \log \sum_i \frac{p_i}{p_i + (1 - p_i)\, p_i^\kappa}, \qquad
              \kappa = \frac{x^\top (X^\top X)^+ x}{1 + x^\top (X^\top X)^+ x}

    with :math:`x = h / \|h\|`, the rows of :math:`X` the normalised training features, and
    :math:`p = \mathrm{softmax}(W x + b)` that of the *normalised* features. What lies outside the
    span of the training features does not count. The sum is computed as what it exceeds 1 by,
    which is of the size of :math:`\kappa`, in terms that are all positive.

    Attributes:
        weight_: the head's weight, ``(c, d)``.
        bias_: the head's bias, ``(c,)``; zero for a head without one.
        root_: a root of the pseudo-inverse, ``(d, r)``.

    Raises:
        DegenerateError: in fitting, if all features are 0.

    References:
        Bibas, Feder and Hassner, NeurIPS 2021, arXiv:2110.09246. The
        published code normalises the features, those for :math:`p` too, and takes the
        pseudo-inverse. pytorch-ood clamps the probabilities, in float32.
    """

    needs = Needs.FEATURES | Needs.HEAD
    stages = (Stage(),)
    year = 2021
    weight_: Tensor
    bias_: Tensor
    root_: Tensor

    def bind(self, head: Head) -> None:
        bias = head.weight.new_zeros(len(head.weight)) if head.bias is None else head.bias
        self.set_buffers(weight_=head.weight.double(), bias_=bias.double())

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Moments:
        return Moments.of(directions(acts.features))

    def solve(self, stage: int, stats: Moments) -> None:
        second = stats.count * stats.about(torch.zeros_like(stats.mean))
        values, vectors = torch.linalg.eigh(second)
        if not values[-1] > 0:
            raise DegenerateError(
                f"{self!r}: the features of all {int(stats.count)} training samples are 0: does "
                "the network's last layer read these?"
            )
        # As torch.linalg.pinv: what is smaller is rounding.
        large = values > torch.finfo(values.dtype).eps * len(values) * values[-1]
        self.set_buffers(root_=vectors[:, large] / values[large].sqrt())

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = directions(acts.features)
        logits = F.linear(x, self.weight_, self.bias_)
        check_classes(logits)
        square = (x @ self.root_).square().sum(1, keepdim=True)
        kappa = square / (1 + square)
        log_p = log_softmax(logits)
        complement = -log_p.expm1()
        # p^(kappa - 1) may be infinite where p underflows: the term is 0 there.
        below = 1 + complement * ((kappa - 1) * log_p).exp()
        excess = -complement * (kappa * log_p).expm1() / below
        return excess.sum(1).log1p() / math.log(logits.shape[1])

    def summary(self) -> str:
        features, rank = self.root_.shape
        return f"second moment of {features} features of norm 1, of rank {rank}"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * features * (features + classes)
