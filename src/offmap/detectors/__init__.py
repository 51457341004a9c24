"""The catalogue of detectors: one method per file, in folders by what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offmap.detectors import _spec
from offmap.detectors._composite import Composite, Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._engine import Fitting, collected_apart, fit
from offmap.detectors._local_data import through_spool
from offmap.detectors._needs import SOURCES, Needs, Stage
from offmap.detectors._plan import cost, nodes, passes, sources, taps_of, why_not_exported
from offmap.detectors._registry import entries, entry_of, register
from offmap.detectors._share import LEARN_SHARE, to_learn_on
from offmap.detectors._spread import Collected, Spread, Task
from offmap.detectors._store import load, restored, save
from offmap.errors import ArgumentError

__all__ = [
    "LEARN_SHARE",
    "SOURCES",
    "Collected",
    "Composite",
    "Detector",
    "Fitting",
    "Needs",
    "Shaper",
    "Spread",
    "Stage",
    "Task",
    "catalogue",
    "classes",
    "collected_apart",
    "cost",
    "detector",
    "entries",
    "entry_of",
    "fit",
    "load",
    "nodes",
    "ordinary",
    "passes",
    "register",
    "restored",
    "save",
    "sources",
    "taps_of",
    "through_spool",
    "to_learn_on",
    "unasked",
    "why_not_exported",
]


def catalogue() -> dict[str, type[Detector]]:
    """Every method by its command-line name, in the order of the tables.

    >>> list(catalogue())[:3]
    ['anchordistance', 'doctor', 'energy']
    """
    return {entry.name: entry.method for entry in entries()}


def classes() -> dict[str, type[Detector]]:
    """Every method by the name of its class."""
    return {entry.method.__name__: entry.method for entry in entries()}


def __getattr__(name: str) -> Any:
    methods = {} if name.startswith("_") else classes()
    if name in methods:
        return methods[name]
    raise AttributeError(f"module 'offmap.detectors' has no attribute {name!r}")


def ordinary() -> list[str]:
    """Names of the detectors for any one classifier, in their order."""
    special = Needs.MEMBERS | Needs.DISTANCES | Needs.INPUTS | Needs.NEGATIVES
    needs = {name: method.default().needs_to_learn for name, method in catalogue().items()}
    return [name for name, flags in needs.items() if not flags & special]


def unasked() -> list[str]:
    """The detectors of "all": those that run the network again must be named one by one."""
    needs = {name: method.default().needs_to_learn for name, method in catalogue().items()}
    return [name for name, flags in needs.items() if Needs.INPUTS not in flags]


def detector(spec: str | Detector | Mapping[str, Any]) -> Detector:
    """A detector from its name, from an expression, or from its record.

    Args:
        spec: a name of the catalogue or an alias, with the method's default arguments; an
            expression such as ``"ReAct(ViM(dim=12), quantile=0.95)"``, which is read and not run; a
            class of your own is named by its file or module, ``"mine.py:CosineNCM(k=3)"``;
            a record, as :meth:`Detector.record` makes it; or a detector, returned as it is.

    Raises:
        UnknownNameError: no such detector.
        ArgumentError: the expression or record cannot be read, or an argument is refused.

    >>> detector("ebo"), detector("react(maxlogit, quantile=0.95)")
    (Energy(temperature=1.0), ReAct(inner=MaxLogit(), quantile=0.95))
    """
    if isinstance(spec, Detector):
        return spec
    if isinstance(spec, str):
        return _spec.parse(spec)
    if not isinstance(spec, Mapping):
        raise ArgumentError(
            f"a detector is a name, an expression, a record or a Detector; seen {spec!r}"
        )
    return _spec.build(spec)
