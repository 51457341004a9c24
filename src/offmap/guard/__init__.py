"""A network, a detector and a threshold as one: decisions with a known rate of false alarms."""

from offmap.guard.calibration import Calibration
from offmap.guard.cascade import Cascade
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
from offmap.guard.log import Log
from offmap.guard.merging import Merged, merged
from offmap.guard.monitor import Monitor
from offmap.guard.occlusion import occlusion
from offmap.guard.opening import Opening, load
from offmap.guard.reasons import explained
from offmap.guard.verdict import Verdict

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
    "Opening",
    "Verdict",
    "adjusted_p_values",
    "alarm_threshold",
    "explained",
    "false_discoveries",
    "load",
    "merged",
    "occlusion",
    "p_values",
]
