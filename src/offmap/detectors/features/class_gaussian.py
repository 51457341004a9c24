"""Density of the features under one Gaussian a class."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from offmap._utils.arguments import flag, number
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._directions import check_directions, directions
from offmap.detectors._gaussian import deviations, squared_distances, whitener
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.errors import DegenerateError
from offmap.stats import ClassMoments, ClassScatters


@register("classgaussian", aliases=("gmm", "ddu"))
class ClassGaussian(Detector):
    r"""Minus the logarithm of the features' density under a mixture of one Gaussian a class.

    .. math:: s(h) = -\log \sum_c \pi_c\, \mathcal N(h; \mu_c, \Sigma_c)

    with :math:`\pi_c` the share of class :math:`c`, and :math:`\Sigma_c` its scatter divided by its
    number of samples. Classes without samples are left out.

    Args:
        tied: one covariance for all classes, pooled within them.
        normalize: divide the features by their norm first.
        ridge: share of each feature's variance that is added to it: of its variance within all
            classes, times that of the class relative to all.

    Attributes:
        centre_: mean of all features, ``(d,)``.
        whiteners_: maps features to unit covariance, for each class or for all, ``(k, d, d)``.
        centres_: whitened class means about the centre, ``(k, d)``.
        log_weights_: logarithm of each class's share times its Gaussian's constant, ``(k,)``.

    Raises:
        ArgumentError: in fitting, if a covariance a class would take too much memory.
        DegenerateError: in fitting, if the samples of a class are one point.

    References:
        Mukhoti et al., CVPR 2023, arXiv:2102.11582, section 3.
    """

    year = 2023
    needs = Needs.FEATURES
    stages = (Stage(labels=True),)
    way_out = "tied=True holds one covariance, and Mahalanobis is close to that"
    centre_: Tensor
    whiteners_: Tensor
    centres_: Tensor
    log_weights_: Tensor

    def __init__(self, *, tied: bool = False, normalize: bool = False, ridge: float = 1e-6) -> None:
        super().__init__()
        self.tied, self.normalize = flag("tied", tied), flag("normalize", normalize)
        self.ridge = number("ridge", ridge, least=0)

    def read(self, acts: Activations) -> Float[Tensor, "n d"]:
        """The features that it models."""
        return directions(acts.features) if self.normalize else acts.features.double()

    def collect(self, stage: int, acts: Activations, labels: Any) -> ClassMoments | ClassScatters:
        kind = ClassMoments if self.tied else ClassScatters
        # Without logits the classes are read from the labels, and a batch may lack the last.
        classes = acts.logits.shape[1] if acts.has_logits else None
        return kind.of(self.read(acts), labels, classes=classes)

    def solve(self, stage: int, stats: ClassMoments | ClassScatters) -> None:
        if self.normalize:
            check_directions(stats.mean.shape[1], repr(self))
        classes = stats.count > 0
        count, mean = stats.count[classes], stats.mean[classes]
        centre = (count @ mean) / count.sum()
        white = self._whiteners(stats)
        about = (mean - centre)[:, None, :]
        # The whitener is triangular: its diagonal holds the determinant.
        log_det = white.diagonal(dim1=1, dim2=2).abs().log().sum(1)
        constant = 0.5 * mean.shape[1] * torch.log(count.new_tensor(2 * torch.pi))
        self.set_buffers(
            centre_=centre,
            whiteners_=white,
            centres_=(about @ white)[:, 0],
            log_weights_=(count / count.sum()).log() + log_det - constant,
        )

    def _whiteners(self, stats: ClassMoments | ClassScatters) -> Float64[Tensor, "k d d"]:
        pooled = stats if isinstance(stats, ClassMoments) else stats.pooled()
        deviation = deviations(pooled, repr(self))
        if isinstance(stats, ClassMoments):
            return whitener(stats.covariance, deviation, self.ridge, repr(self))[None]
        self._check_spread(stats, deviation)
        pairs = zip(stats.scatter, stats.count, strict=True)
        whiteners = [whitener(s / n, deviation, self.ridge, repr(self)) for s, n in pairs if n > 0]
        return torch.stack(whiteners)

    def _check_spread(self, stats: ClassScatters, deviation: Float64[Tensor, " d"]) -> None:
        spread = (stats.scatter.diagonal(dim1=1, dim2=2) / deviation.square()).mean(1)
        point = (spread <= torch.finfo(spread.dtype).eps) & (stats.count > 0)
        if point.any():
            y = int(point.nonzero()[0])
            raise DegenerateError(
                f"{self!r}: the {int(stats.count[y])} samples of class {y} are one point, which "
                "has no covariance: give more of them, or use tied=True"
            )

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = self.read(acts) - self.centre_
        if self.tied:
            squares = squared_distances(x @ self.whiteners_[0], self.centres_)
        else:  # class by class: no (n, k, d) array
            # In place: a result kept between two products leaves a hole where the next has no room.
            squares = x.new_empty(x.shape[0], len(self.centres_))
            for i, (w, m) in enumerate(zip(self.whiteners_, self.centres_, strict=True)):
                squares[:, i] = (x @ w - m).square().sum(1)
        return -(self.log_weights_ - 0.5 * squares).logsumexp(1)

    def footprint(self, classes: int, features: int) -> int:
        return 8 * features**2 * (1 if self.tied else 3 * classes)

    def summary(self) -> str:
        kind = "one covariance" if self.tied else "a covariance each"
        return f"Gaussians of {len(self.centres_)} classes, {kind}"
