"""Know when your classifier is off the map.

Out-of-distribution detection, open-set recognition and uncertainty. The names below are imported
when they are first used, so that ``import offmap`` and ``offmap --help`` need no torch. Every
detector of the catalogue is a name here too: ``offmap.ViM``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offmap import (
        activations,
        data,
        detectors,
        errors,
        evaluation,
        forward,
        guard,
        metrics,
        networks,
        plots,
        scale,
        serve,
        stats,
        training,
    )
    from offmap.activations import Activations, Head
    from offmap.detectors import Detector, catalogue, detector, fit
    from offmap.evaluation import Results, aggregate, compare, evaluate
    from offmap.forward import Normalization, Probe
    from offmap.guard import Cascade, Guard, Monitor, Verdict, alarm_threshold, load
    from offmap.guard.export import export
    from offmap.reporting import report

_HOMES = {
    "activations": ("Activations", "Head"),
    "detectors": ("Detector", "catalogue", "detector", "fit"),
    "evaluation": ("Results", "aggregate", "compare", "evaluate"),
    "forward": ("Normalization", "Probe"),
    "guard": ("Cascade", "Guard", "Monitor", "Verdict", "alarm_threshold", "load"),
    "guard.export": ("export",),
    "reporting": ("report",),
}
_NAMES = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
# Written out, as checkers of types take no other list for names that are there to be used.
__all__ = [
    "Activations",
    "Cascade",
    "Detector",
    "Guard",
    "Head",
    "Monitor",
    "Normalization",
    "Probe",
    "Results",
    "Verdict",
    "activations",
    "aggregate",
    "alarm_threshold",
    "catalogue",
    "compare",
    "data",
    "detector",
    "detectors",
    "errors",
    "evaluate",
    "evaluation",
    "export",
    "fit",
    "forward",
    "guard",
    "load",
    "metrics",
    "networks",
    "plots",
    "report",
    "scale",
    "serve",
    "stats",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"offmap.{_NAMES[name]}"), name)
    if name in __all__:
        return import_module(f"offmap.{name}")
    if not name.startswith("_"):
        methods = import_module("offmap.detectors").classes()
        if name in methods:
            return methods[name]
    raise AttributeError(f"module 'offmap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *import_module("offmap.detectors").classes()]
