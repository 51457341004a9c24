"""Angle between the features and the farthest decision boundary, seen from the centre."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.detectors._boundaries import inverse_gaps
from offmap.detectors._chunks import by_rows
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.stats import ClassMeans

_ARRAYS = 14  # intermediates with one column a class


@register("ora")
class ORA(Detector):
    r"""Minus the largest angle to a projection on a decision boundary, seen from the mean.

    .. math:: s(h) = -\max_k\ \angle(h - \mu,\ h_k - \mu), \qquad
              h_k = h - \frac{z_{\hat y} - z_k}{\| w_{\hat y} - w_k \|} u_k, \qquad
              u_k = \frac{w_{\hat y} - w_k}{\| w_{\hat y} - w_k \|}

    with :math:`\mu` the mean of the class means and :math:`h_k` the projection of :math:`h` on the
    boundary of the predicted class and class :math:`k`. Angles are in radians, from 0 to pi. They
    come from sines and cosines both: an arc cosine alone loses half of the digits of a small
    angle. Classes without samples are left out of the mean, and classes whose rows of the head are
    equal have no boundary. It has no parameter. The published code divides by pi.

    Attributes:
        centre_: mean of the class means, ``(d,)``.
        weight_: the head's weight, ``(c, d)``.
        inverse_: one over the distances between its rows, 0 for equal ones, ``(c, c)``.

    Raises:
        DegenerateError: in fitting, if all rows of the head are equal, or there is one class.

    References:
        Demirel, Fumero and Locatello, NeurIPS 2025, arXiv:2410.04525, and the published
        code.
    """

    year = 2025
    suits = "any classifier with a linear head"
    needs = Needs.LOGITS | Needs.FEATURES | Needs.HEAD
    stages = (Stage(labels=True),)
    centre_: Tensor
    weight_: Tensor
    inverse_: Tensor

    def bind(self, head: Head) -> None:
        inverse = inverse_gaps(head.weight, repr(self))
        self.set_buffers(weight_=head.weight.double().clone(), inverse_=inverse)

    def collect(self, stage: int, acts: Activations, labels: Any) -> ClassMeans:
        classes = acts.logits.shape[1] if acts.has_logits else None
        return ClassMeans.of(acts.features, labels, classes=classes)

    def solve(self, stage: int, stats: ClassMeans) -> None:
        self.set_buffers(centre_=stats.mean[stats.count > 0].mean(0))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = acts.features.double() - self.centre_
        return by_rows(self._scores, _ARRAYS * len(self.weight_), x, acts.logits.double())

    def _scores(self, x: Float64[Tensor, "n d"], z: Float64[Tensor, "n c"]) -> Float[Tensor, " n"]:
        label = z.argmax(1)
        inverse = self.inverse_[label]
        s = (z.amax(1, keepdim=True) - z) * inverse  # to the boundary
        q = x @ self.weight_.T
        q = (q.gather(1, label[:, None]) - q) * inverse  # along its normal
        square = x.square().sum(1, keepdim=True)
        along = (square - q.square()).clamp(min=0)  # squared, of the part along the boundary
        cosine = along + q * (q - s)  # times both norms, as is the sine
        norms = (square * (along + (q - s).square())).sqrt()
        sine, tiny = s * along.sqrt(), torch.finfo(s.dtype).tiny
        # The tangent of half the angle rises with the angle, and graphs have one arc tangent only.
        # By the form in which no difference cancels; 0 for no angle.
        acute = sine / (norms + cosine).clamp(min=tiny)
        obtuse = (norms - cosine) / sine.clamp(min=tiny)
        half = torch.where(cosine > 0, acute, obtuse)
        return -2 * half.amax(1).float().atan()

    def summary(self) -> str:
        classes, features = self.weight_.shape
        return f"boundaries of {classes} classes; the mean of their {features}-dimensional means"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * classes * max(classes, features)
