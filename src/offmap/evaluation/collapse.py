"""Neural collapse: how far the features of each class have drawn together into one point.

Everything comes from class moments, a head, and one count over the features once the means are
known. Give the training images un-augmented; networks run in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from offmap.activations import Activations, Head
from offmap.detectors import Detector, Needs, Stage, fit
from offmap.errors import DegenerateError, NeedsError
from offmap.evaluation._inputs import flat, loaded
from offmap.forward import Probe, forward, probe_of
from offmap.stats import ClassMoments, Mean, Statistic


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """NC1 to NC5 of a network on its training data.

    NC1 to NC4 go to 0 as it collapses; that NC5 falls with them is what Ammar et al. observed.

    Args:
        n: training samples.
        accuracy: share of them classified correctly.
        nc1: variability within classes, :func:`within_class`.
        nc2_norms: relative deviation of the norms of the class means, :func:`simplex`.
        nc2_angles: deviation of their cosines.
        nc2_simplex: mean distance of their cosines from those of a simplex.
        nc3: distance of head and class means, :func:`self_duality`; ``None`` without a head.
        nc4: share of samples on which classifier and nearest class mean disagree.
        nc5: orthogonality to each OOD set, :func:`orthogonality`, by name.
        means: of the classes that have samples, ``(k, d)``.
    """

    n: int
    accuracy: float
    nc1: float
    nc2_norms: float
    nc2_angles: float
    nc2_simplex: float
    nc3: float | None
    nc4: float
    nc5: dict[str, float] = field(default_factory=dict)
    means: Float64[Tensor, "k d"] = field(repr=False, compare=False)

    def figures(self) -> dict[str, Any]:
        """All numbers by name, those of NC5 as ``nc5_NAME``."""
        own = {name: value for name, value in vars(self).items() if name not in ("nc5", "means")}
        return own | {f"nc5_{name}": value for name, value in self.nc5.items()}


def collapse(
    network: nn.Module, train: Any, *, ood: Mapping[str, Any] | None = None, **options: Any
) -> Collapse:
    """Measure neural collapse; each image passes the network once.

    Memory is that of ``c`` class means and one ``(d, d)`` scatter; features wait on disk for the
    second reading that NC4 takes.

    Args:
        network: a classifier.
        train: its training data, un-augmented, with labels; as for :func:`offmap.evaluate`.
        ood: OOD sets by name, or by group and name, for NC5.
        **options: ``batch_size``, ``cache``, ``show_progress``, and those of :class:`offmap.Probe`.

    Raises:
        NeedsError: the network has no features, or is an ensemble or a cascade.
        ArgumentError: two OOD sets of one name.
        LabelError: the data has no labels of the network's classes.
        DegenerateError: fewer than two classes, or class means that are one point.

    References:
        Papyan, Han and Donoho, PNAS 2020, arXiv:2008.08186; NC5: Ammar et al., ICLR 2024,
        arXiv:2310.06823.
    """
    reading = {name: options.pop(name) for name in _READING if name in options}
    sets = list(flat(ood or {}))  # refuses before the work, not after it
    train = loaded(train, None)
    with probe_of(network, **options) as probe:
        if not isinstance(probe, Probe):
            raise NeedsError(
                f"collapse is that of one network's features; {type(network).__name__} has "
                "several networks: measure each by itself"
            )
        stages = _Moments()
        fit([stages], train=forward(probe, train, description="train", **reading))
        moments = stages.moments
        norms, angles, distances = simplex(moments)
        nc5 = {}
        for name, _, data in sets:
            batches = forward(probe, loaded(data, train), description=name, **reading)
            statistic = reduce(add, (Mean.of(acts.features) for acts, _ in batches))
            nc5[name] = orthogonality(moments, statistic.mean)
        return Collapse(
            n=stages.samples,
            accuracy=stages.right / stages.samples,
            nc1=within_class(moments),
            nc2_norms=norms,
            nc2_angles=angles,
            nc2_simplex=distances,
            nc3=self_duality(moments, probe.head) if isinstance(probe.head, Head) else None,
            nc4=1 - stages.agreeing / stages.samples,
            nc5=nc5,
            means=present(moments),
        )


_READING = ("batch_size", "cache", "show_progress")


def within_class(moments: ClassMoments) -> float:
    r"""NC1: :math:`\mathrm{tr}(S_W S_B^+) / c`, variability within classes against that between.

    :math:`S_W` is the pooled covariance within classes, :math:`S_B` the covariance of the class
    means about their mean, each class counted once; its pseudoinverse spans at most ``c - 1``
    directions.

    Raises:
        DegenerateError: fewer than two classes, or class means that are one point.
    """
    means = centred(present(moments))
    _, sizes, directions = torch.linalg.svd(means, full_matrices=False)
    in_span = sizes > sizes.max() * torch.finfo(sizes.dtype).eps * max(means.shape)
    in_span[len(means) - 1 :] = False  # of c centred means, c - 1 are free
    basis = directions[in_span]
    variances = ((basis @ moments.covariance) * basis).sum(1)
    # S_B holds a factor 1 / c, which cancels the one in front.
    return float((variances / sizes[in_span].square()).sum())


def simplex(moments: ClassMoments) -> tuple[float, float, float]:
    r"""NC2: how far the centred class means :math:`\mu_j - \mu` are from a simplex.

    Returns:
        The deviation of their norms over the mean norm; the deviation of the cosines of all pairs;
        and the mean of :math:`|\cos_{jk} + 1 / (c - 1)|`.

    Raises:
        DegenerateError: as :func:`within_class`; or a class mean lies on the mean of all.
    """
    means = present(moments)
    norms = centred(means).norm(dim=1)
    pairs = cosines(means)[~torch.eye(len(means), dtype=torch.bool, device=means.device)]
    from_simplex = (pairs + 1 / (len(means) - 1)).abs().mean()
    return (
        float(norms.std(correction=0) / norms.mean()),
        float(pairs.std(correction=0)),
        float(from_simplex),
    )


def cosines(means: Float64[Tensor, "k d"]) -> Float64[Tensor, "k k"]:
    """Cosines of all pairs of class means, seen from the mean of all.

    Raises:
        DegenerateError: as :func:`within_class`; or a class mean lies on the mean of all.
    """
    directions = centred(means)
    norms = directions.norm(dim=1, keepdim=True)
    if not (norms > 0).all():
        raise DegenerateError("a class mean equals the mean of all, so its angles are not known")
    product: Tensor = (directions / norms) @ (directions / norms).T
    return product


def self_duality(moments: ClassMoments, head: Head) -> float:
    r"""NC3: :math:`\| W / \|W\|_F - M / \|M\|_F \|_F`, the centred class means as rows of M."""
    means = centred(present(moments))
    weight = head.weight.to(means)[moments.count > 0]
    return float((weight / weight.norm() - means / means.norm()).norm())


def orthogonality(moments: ClassMoments, ood: Float64[Tensor, " d"]) -> float:
    r"""NC5: the mean over classes of :math:`|\cos(\mu_j, \mu_{OOD})|`, none of them centred.

    A class whose mean is the origin, as of features that a ReLU has cut to 0, has no direction and
    is left out. NaN where the mean of the OOD features is the origin.
    """
    means = present(moments)
    means = means[means.norm(dim=1) > 0]
    cosine = (means @ ood) / (means.norm(dim=1) * ood.norm())
    return float(cosine.abs().mean())


def present(moments: ClassMoments) -> Float64[Tensor, "k d"]:
    """Means of the classes that have samples."""
    return moments.mean[moments.count > 0]


def centred(means: Float64[Tensor, "k d"]) -> Float64[Tensor, "k d"]:
    """Class means less the mean of them all.

    Raises:
        DegenerateError: fewer than two classes, or class means that are one point.
    """
    offsets = means - means.mean(0)
    if len(means) < 2 or not offsets.abs().max() > 0:
        raise DegenerateError(
            f"collapse is between classes: there are {len(means)} of them with samples, or all of "
            "their means are one point"
        )
    return offsets


@dataclass(frozen=True)
class _Counts(Statistic):
    """Samples, those classified correctly, and those on which the nearest mean agrees."""

    samples: int
    right: int
    agreeing: int

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(
            self.samples + other.samples,
            self.right + other.right,
            self.agreeing + other.agreeing,
        )


class _Moments(Detector):
    """Fitted like a detector, in two stages: class moments, then how often nearest means agree."""

    needs = Needs.LOGITS | Needs.FEATURES
    stages = (Stage(labels=True), Stage(labels=True))

    def collect(self, stage: int, acts: Activations, labels: Any) -> Any:
        if stage == 0:
            return ClassMoments.of(acts.features, labels, classes=acts.logits.shape[1])
        predictions = acts.predictions
        agreement = predictions == self._nearest(acts.features)
        return _Counts(len(acts), int((predictions == labels).sum()), int(agreement.sum()))

    def solve(self, stage: int, stats: Any) -> None:
        if stage == 0:
            self.set_buffers(count_=stats.count, mean_=stats.mean, scatter_=stats.scatter)
        else:
            self.samples, self.right, self.agreeing = stats.samples, stats.right, stats.agreeing

    count_: Tensor
    mean_: Tensor
    scatter_: Tensor

    @property
    def moments(self) -> ClassMoments:
        """The class moments of the first stage."""
        return ClassMoments(self.count_, self.mean_, self.scatter_)

    def _nearest(self, features: Float[Tensor, "n d"]) -> Int64[Tensor, " n"]:
        """The class of the nearest mean; a class without samples has none."""
        # About the mean of the means: far from the origin the products would cancel.
        centre = present(self.moments).mean(0)
        means, x = self.moments.mean - centre, features.double() - centre
        distances = means.square().sum(1) - 2 * x @ means.T  # squared, less that of x
        nearest: Tensor = distances.masked_fill(self.moments.count == 0, torch.inf).argmin(1)
        return nearest
