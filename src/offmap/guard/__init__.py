"""A network, a detector and a threshold as one: decisions with a known rate of false alarms."""

from offmap.guard.calibration import Calibration
from offmap.guard.cascade import Cascade
from offmap.guard.check import Check
from offmap.guard.control import Control
from offmap.guard.decide import (
    adjusted_p_values,
    alarm_threshold,
    false_discoveries,
    p_values,
)
from offmap.guard.guard import Guard
from offmap.guard.loading import load
from offmap.guard.verdict import Verdict

__all__ = [
    "Calibration",
    "Cascade",
    "Check",
    "Control",
    "Guard",
    "Verdict",
    "adjusted_p_values",
    "alarm_threshold",
    "false_discoveries",
    "load",
    "p_values",
]
