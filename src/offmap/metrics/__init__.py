"""Metrics of OOD scores: functions of ``(id_scores, ood_scores)`` that know no detector.

Higher scores are more OOD, OOD is the positive class, ties count one half.
"""

from offmap.metrics.curves import PrCurve, RocCurve, pr_curve, roc_curve
from offmap.metrics.intervals import (
    AurocDifference,
    Interval,
    delong_interval,
    delong_test,
    delong_test_of_mean,
)
from offmap.metrics.ranking import aupr_in, aupr_out, auroc, detection_accuracy, fpr_at_tpr
from offmap.metrics.rejection import OpenSet, OscrCurve, open_set, oscr, oscr_curve
from offmap.metrics.summary import Detection, detection

__all__ = [
    "AurocDifference",
    "Detection",
    "Interval",
    "OpenSet",
    "OscrCurve",
    "PrCurve",
    "RocCurve",
    "aupr_in",
    "aupr_out",
    "auroc",
    "delong_interval",
    "delong_test",
    "delong_test_of_mean",
    "detection",
    "detection_accuracy",
    "fpr_at_tpr",
    "open_set",
    "oscr",
    "oscr_curve",
    "pr_curve",
    "roc_curve",
]
