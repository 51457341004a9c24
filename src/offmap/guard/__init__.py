"""A network, a detector and a threshold as one: decisions with a known rate of false alarms.

What a guard itself does not need is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from offmap.guard.calibration import Calibration
from offmap.guard.certified import Certified
from offmap.guard.check import Check
from offmap.guard.control import Control
from offmap.guard.decide import (
    adjusted_p_values,
    alarm_threshold,
    false_discoveries,
    p_values,
)
from offmap.guard.guard import Guard
from offmap.guard.occlusion import occlusion
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.guard.cascade import Cascade
    from offmap.guard.log import Log
    from offmap.guard.merging import Merged, merged
    from offmap.guard.monitor import Monitor
    from offmap.guard.neighbours import Neighbour, nearest
    from offmap.guard.opening import Opening, load
    from offmap.guard.reasons import explained

_HOMES = {
    "Cascade": "cascade",
    "Log": "log",
    "Merged": "merging",
    "Monitor": "monitor",
    "Neighbour": "neighbours",
    "Opening": "opening",
    "explained": "reasons",
    "load": "opening",
    "merged": "merging",
    "nearest": "neighbours",
}

__all__ = [
    "Calibration",
    "Cascade",
    "Certified",
    "Check",
    "Control",
    "Guard",
    "Log",
    "Merged",
    "Monitor",
    "Neighbour",
    "Opening",
    "Verdict",
    "adjusted_p_values",
    "alarm_threshold",
    "explained",
    "false_discoveries",
    "load",
    "merged",
    "nearest",
    "occlusion",
    "p_values",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'offmap.guard' has no attribute {name!r}")
    return getattr(import_module(f"offmap.guard.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
