"""Metrics of OOD scores: functions of ``(id_scores, ood_scores)`` that know no detector.

Higher scores are more OOD, OOD is the positive class, ties count one half.
"""

from offmap.metrics.acceptance import (
    Outcomes,
    Selection,
    accepted_and_right,
    best_f1_threshold,
)
from offmap.metrics.bootstrap import bootstrap_difference, f1_difference
from offmap.metrics.calibration import Reliability, reliability
from offmap.metrics.curves import PrCurve, RocCurve, pr_curve, roc_curve
from offmap.metrics.intervals import (
    Difference,
    Interval,
    delong_interval,
    delong_interval_of_mean,
    delong_test,
    delong_test_of_mean,
    placed_difference,
    placed_interval,
)
from offmap.metrics.open_set_recognition import OpenSet, OscrCurve, open_set, oscr, oscr_curve
from offmap.metrics.placements import Placements
from offmap.metrics.ranking import aupr_in, aupr_out, auroc, detection_accuracy, fpr_at_tpr
from offmap.metrics.risk import RiskCoverage, augrc, aurc, coverage_at_risk, risk_coverage
from offmap.metrics.several import holm, share_interval
from offmap.metrics.summary import Detection, detection

__all__ = [
    "Detection",
    "Difference",
    "Interval",
    "OpenSet",
    "OscrCurve",
    "Outcomes",
    "Placements",
    "PrCurve",
    "Reliability",
    "RiskCoverage",
    "RocCurve",
    "Selection",
    "accepted_and_right",
    "augrc",
    "aupr_in",
    "aupr_out",
    "aurc",
    "auroc",
    "best_f1_threshold",
    "bootstrap_difference",
    "coverage_at_risk",
    "delong_interval",
    "delong_interval_of_mean",
    "delong_test",
    "delong_test_of_mean",
    "detection",
    "detection_accuracy",
    "f1_difference",
    "fpr_at_tpr",
    "holm",
    "open_set",
    "oscr",
    "oscr_curve",
    "placed_difference",
    "placed_interval",
    "pr_curve",
    "reliability",
    "risk_coverage",
    "roc_curve",
    "share_interval",
]
