"""Know when your classifier is off the map.

Out-of-distribution detection, open-set recognition and uncertainty. The names below are imported
when they are first used, so that ``import offmap`` and ``offmap --help`` need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offmap import collapse, data, forward, metrics, networks, plots
    from offmap.activations import Activations, Head
    from offmap.cascade import Cascade
    from offmap.comparison import compare
    from offmap.decide import alarm_threshold
    from offmap.detectors import (
        GEN,
        KNN,
        MSP,
        NECO,
        AnchorDistance,
        Detector,
        Energy,
        Entropy,
        ExpectedEntropy,
        KLUniform,
        Mahalanobis,
        MaxLogit,
        MaxProbability,
        MemberMean,
        MutualInformation,
        ReAct,
        RelativeMahalanobis,
        Residual,
        Shaper,
        TotalEntropy,
        ViM,
        catalogue,
        detector,
        fit,
    )
    from offmap.evaluation import evaluate
    from offmap.exporting import export
    from offmap.forward import Normalization, Probe
    from offmap.guard import Guard, load
    from offmap.results import Results
    from offmap.verdict import Verdict

_HOMES = {
    "activations": ("Activations", "Head"),
    "cascade": ("Cascade",),
    "comparison": ("compare",),
    "decide": ("alarm_threshold",),
    "detectors": (
        *("GEN", "KNN", "MSP", "NECO", "AnchorDistance", "Detector", "Energy", "Entropy"),
        *("ExpectedEntropy", "KLUniform", "MaxProbability", "MemberMean", "MutualInformation"),
        *("TotalEntropy",),
        *("Mahalanobis", "MaxLogit", "ReAct", "RelativeMahalanobis", "Residual", "Shaper", "ViM"),
        *("catalogue", "detector", "fit"),
    ),
    "evaluation": ("evaluate",),
    "exporting": ("export",),
    "forward": ("Normalization", "Probe"),
    "guard": ("Guard", "load"),
    "results": ("Results",),
    "verdict": ("Verdict",),
}
_MODULES = ("collapse", "data", "forward", "metrics", "networks", "plots")
_NAMES = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "GEN",
    "KNN",
    "MSP",
    "NECO",
    "Activations",
    "AnchorDistance",
    "Cascade",
    "Detector",
    "Energy",
    "Entropy",
    "ExpectedEntropy",
    "Guard",
    "Head",
    "KLUniform",
    "Mahalanobis",
    "MaxLogit",
    "MaxProbability",
    "MemberMean",
    "MutualInformation",
    "Normalization",
    "Probe",
    "ReAct",
    "RelativeMahalanobis",
    "Residual",
    "Results",
    "Shaper",
    "TotalEntropy",
    "Verdict",
    "ViM",
    "alarm_threshold",
    "catalogue",
    "collapse",
    "compare",
    "data",
    "detector",
    "evaluate",
    "export",
    "fit",
    "forward",
    "load",
    "metrics",
    "networks",
    "plots",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"offmap.{name}")
    if name in _NAMES:
        return getattr(import_module(f"offmap.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'offmap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
