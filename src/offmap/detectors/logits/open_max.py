"""Probability of an unknown class, from the tails of distances to the classes' mean logits."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from offmap._utils.arguments import whole
from offmap.activations import Activations
from offmap.detectors._confidences import check_confidence
from offmap.detectors._detector import Detector
from offmap.detectors._gaussian import squared_distances
from offmap.detectors._needs import Stage
from offmap.detectors._registry import register
from offmap.errors import DegenerateError
from offmap.stats import ClassMeans, Largest, Mean, Product, Statistic

_ROUNDING = 1e-12  # distances below this share of the largest mean logit are 0
_LEAST, _MOST, _HALVINGS = -3.0, 9.0, 70  # range and steps of log10 of the Weibull shape


@register("openmax")
class OpenMax(Detector):
    r"""Probability of an unknown class, to which the logits of far samples are moved.

    .. math:: s(z) = \frac{\exp v_0}{\exp v_0 + \sum_c \exp v_c}, \quad
              v_c = z_c (1 - w_c), \quad v_0 = \sum_c z_c w_c, \quad
              w_{(i)} = \frac{\alpha + 1 - i}{\alpha}
                        \Big(1 - \exp\big(-(d_{(i)} / \lambda_{(i)})^{\kappa_{(i)}}\big)\Big)

    for the :math:`\alpha` classes of the largest logits, :math:`(i)` the i-th of them, and
    :math:`w = 0` for all others. :math:`d_c` is the distance from :math:`z` to the mean logits of
    the training samples of class :math:`c` that are *rightly* predicted, :math:`\lambda_c` and
    :math:`\kappa_c` scale and shape of the Weibull distribution that is most likely for the
    largest of those samples' own distances. A class with fewer than two different ones takes the
    distribution of all classes together; one without rightly predicted samples loses its whole
    share. What is moved of a logit below 0 makes the unknown class less likely: where the largest
    is not positive on average over the training data, a fit is refused.

    Args:
        tail: how many of the largest distances of each class count.
        alpha: how many of the largest logits are revised; all if there are fewer classes.

    Attributes:
        centres_: mean logits, ``(c, c)``.
        shape_: of each class's Weibull distribution, ``(c,)``.
        scale_: likewise, ``(c,)``.

    Raises:
        DegenerateError: in fitting, if no sample is rightly predicted, or those that are do not
            differ in their distances; or the largest logit is not positive on average.

    References:
        Bendale and Boult, CVPR 2016, arXiv:1511.06233, algorithms 1 and 2. The weights are those of
        the published code, whose Weibull distribution begins 10,000 below the smallest of the tail;
        here it begins at the distance 0, so that another unit of the logits changes nothing in it.
        pytorch-ood takes 25 distances, and those of wrongly predicted samples too.
    """

    stages = (Stage(labels=True), Stage(labels=True))
    year = 2016
    centres_: Tensor
    shape_: Tensor
    scale_: Tensor

    def __init__(self, *, tail: int = 20, alpha: int = 10) -> None:
        super().__init__()
        self.tail = whole("tail", tail, low=2)
        self.alpha = whole("alpha", alpha)

    def collect(self, stage: int, acts: Activations, labels: Any) -> Statistic:
        right = acts.logits.argmax(1) == labels
        z, y, classes = acts.logits[right].double(), labels[right], acts.logits.shape[1]
        if stage == 0:
            largest = acts.logits.amax(1, keepdim=True)
            return Product((ClassMeans.of(z, y, classes=classes), Mean.of(largest)))
        distances = (z - self.centres_[y]).square().sum(1).sqrt()
        return Largest.of(distances, y, classes=classes, size=self.tail)

    def solve(self, stage: int, stats: Any) -> None:
        if stage == 0:
            centres, maximum = stats.parts
            self._set_centres(centres)
            check_confidence(float(maximum.mean), repr(self), "MaxLogit", "max_logit")
            return
        largest = stats.values
        absent = largest[:, 0] == -torch.inf
        # Distances within rounding count as none.
        least = _ROUNDING * self.centres_.abs().max()
        largest = largest.where(largest > least, -torch.inf)
        pool = largest.flatten().topk(min(self.tail, largest.numel())).values[None]
        if not _varied(pool):
            count = int((stats.values > -torch.inf).sum())
            raise DegenerateError(
                f"{self!r}: the {count} rightly predicted training samples that lie farthest from "
                "the mean logits of their class are all at one distance: give more samples"
            )
        shape, scale = _fit_weibull(largest.where(_varied(largest)[:, None], pool.new_tensor(1.0)))
        varies, pooled = _varied(largest), _fit_weibull(pool)
        shape, scale = shape.where(varies, pooled[0]), scale.where(varies, pooled[1])
        tiny = torch.finfo(scale.dtype).tiny
        self.set_buffers(shape_=shape.where(~absent, 1.0), scale_=scale.where(~absent, tiny))

    def _set_centres(self, stats: ClassMeans) -> None:
        if not stats.count.any():
            raise DegenerateError(
                f"{self!r}: no training sample is predicted as its label says, and the distances "
                "are those of samples that are: give the network's own classes as labels"
            )
        self.set_buffers(centres_=stats.mean)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        z = acts.logits.double()
        alpha = min(self.alpha, z.shape[1])
        top = z.topk(alpha, dim=1)
        weights = torch.arange(alpha, 0, -1, device=z.device, dtype=z.dtype) / alpha
        # The cumulative probability of the distance to each class mean, by its distribution.
        log_d = 0.5 * squared_distances(z, self.centres_).clamp(min=1e-300).log()
        within = -(-(self.shape_ * (log_d - self.scale_.log())).exp()).expm1()
        mass = top.values * weights * within.gather(1, top.indices)
        unknown = mass.sum(1, keepdim=True)
        revised = torch.cat([unknown, z.scatter(1, top.indices, top.values - mass)], dim=1)
        return revised.log_softmax(1)[:, 0].exp()

    def summary(self) -> str:
        return f"Weibull distributions of {len(self.shape_)} classes' largest distances"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * classes * (classes + self.tail)


def _varied(largest: Float64[Tensor, "k m"]) -> Tensor:
    """Whether a row has two different finite values; the largest stands first."""
    finite = largest > -torch.inf
    least = largest.where(finite, torch.inf).amin(1)
    return finite.any(1) & (least < largest[:, 0])


def _fit_weibull(
    largest: Float64[Tensor, "k m"],
) -> tuple[Float64[Tensor, " k"], Float64[Tensor, " k"]]:
    """Maximum-likelihood shape and scale of the finite values of each row.

    The derivative by the shape, ``sum x^k log x / sum x^k - 1/k - mean log x``, rises with k: its
    zero is found by bisection, for all rows at once.
    """
    finite = largest > -torch.inf
    count, top = finite.sum(1), largest.amax(1, keepdim=True)
    log_x = (largest / top).where(finite, 1.0).log()
    mean = log_x.sum(1) / count
    low, high = (torch.full_like(mean, end) for end in (_LEAST, _MOST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        k = 10**middle
        power = (k[:, None] * log_x).exp() * finite
        rises = (power * log_x).sum(1) / power.sum(1) - 1 / k - mean > 0
        low, high = low.where(rises, middle), middle.where(rises, high)
    k = 10 ** ((low + high) / 2)
    power = ((k[:, None] * log_x).exp() * finite).sum(1) / count
    return k, top[:, 0] * (power.log() / k).exp()
