"""A network, a detector and a threshold as one: decisions with a known rate of false alarms."""

from offmap.guard.calibration import Calibration
from offmap.guard.cascade import Cascade
from offmap.guard.certified import Certified
from offmap.guard.decide import alarm_threshold
from offmap.guard.guard import Guard
from offmap.guard.loading import load
from offmap.guard.log import Log
from offmap.guard.merging import Merged, merged
from offmap.guard.monitor import Monitor
from offmap.guard.reasons import explained
from offmap.guard.verdict import Verdict

__all__ = [
    "Calibration",
    "Cascade",
    "Certified",
    "Guard",
    "Log",
    "Merged",
    "Monitor",
    "Verdict",
    "alarm_threshold",
    "explained",
    "load",
    "merged",
]
