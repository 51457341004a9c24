"""The catalogue of detectors: one method per file."""

from __future__ import annotations

from collections.abc import Mapping

from offmap.detectors import _spec
from offmap.detectors._base import Detector
from offmap.detectors._fit import fit
from offmap.detectors._shaper import Shaper
from offmap.detectors.anchor_distance import AnchorDistance
from offmap.detectors.energy import Energy
from offmap.detectors.entropy import Entropy
from offmap.detectors.expected_entropy import ExpectedEntropy
from offmap.detectors.gen import GEN
from offmap.detectors.kl_uniform import KLUniform
from offmap.detectors.knn import KNN
from offmap.detectors.mahalanobis import Mahalanobis
from offmap.detectors.max_logit import MaxLogit
from offmap.detectors.max_probability import MaxProbability
from offmap.detectors.member_mean import MemberMean
from offmap.detectors.msp import MSP
from offmap.detectors.mutual_information import MutualInformation
from offmap.detectors.neco import NECO
from offmap.detectors.react import ReAct
from offmap.detectors.relative_mahalanobis import RelativeMahalanobis
from offmap.detectors.residual import Residual
from offmap.detectors.total_entropy import TotalEntropy
from offmap.detectors.vim import ViM
from offmap.errors import ArgumentError

__all__ = [
    "GEN",
    "KNN",
    "MSP",
    "NECO",
    "AnchorDistance",
    "Detector",
    "Energy",
    "Entropy",
    "ExpectedEntropy",
    "KLUniform",
    "Mahalanobis",
    "MaxLogit",
    "MaxProbability",
    "MemberMean",
    "MutualInformation",
    "ReAct",
    "RelativeMahalanobis",
    "Residual",
    "Shaper",
    "TotalEntropy",
    "ViM",
    "catalogue",
    "detector",
    "fit",
    "ordinary",
]

# Other libraries' names of the same methods.
_ALIASES = {
    "maxsoftmax": "msp",
    "mls": "maxlogit",
    "ebo": "energy",
    "mds": "mahalanobis",
    "rmd": "relativemahalanobis",
    "rmds": "relativemahalanobis",
    "dknn": "knn",
    "cac": "anchordistance",
}


def catalogue() -> dict[str, type[Detector]]:
    """Every method by its command-line name, in the order of the tables.

    >>> list(catalogue())[:3]
    ['msp', 'maxlogit', 'energy']
    """
    methods: list[type[Detector]] = [MSP, MaxLogit, Energy, Entropy, KLUniform, GEN]
    methods += [Mahalanobis, RelativeMahalanobis, KNN, Residual, ViM, NECO, ReAct]
    methods += [AnchorDistance]
    methods += [MaxProbability, TotalEntropy, ExpectedEntropy, MutualInformation, MemberMean]
    return {method.__name__.lower(): method for method in methods}


def ordinary() -> list[str]:
    """Names of the detectors for one network whose logits are no distances, in their order."""
    others = {"members", "distances"}
    return [name for name, method in catalogue().items() if not method.default().needs & others]


def detector(spec: str | Detector | dict[str, object]) -> Detector:
    """A detector from its name, from an expression, or from its record.

    Args:
        spec: a name of the catalogue or an alias, with the method's default arguments; an
            expression such as ``"ReAct(ViM(dim=12), quantile=0.95)"``, which is read and not run;
            a record, as :meth:`Detector.record` makes it; or a detector, returned as it is.

    Raises:
        UnknownNameError: no such detector.
        ArgumentError: the expression or record cannot be read, or an argument is refused.

    >>> detector("ebo"), detector("react(maxlogit, quantile=0.95)")
    (Energy(temperature=1.0), ReAct(inner=MaxLogit(), quantile=0.95))
    """
    if isinstance(spec, Detector):
        return spec
    known = catalogue()
    known |= {alias: known[name] for alias, name in _ALIASES.items()}
    if isinstance(spec, str):
        return _spec.parse(spec, known)
    if not isinstance(spec, Mapping):
        raise ArgumentError(
            f"a detector is a name, an expression, a record or a Detector; seen {spec!r}"
        )
    return _spec.build(spec, known)
