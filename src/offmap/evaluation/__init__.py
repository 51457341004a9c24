"""Detectors on OOD sets: their metrics, how sure these are, and how networks compare."""

from offmap.evaluation.aggregation import Aggregate, aggregate
from offmap.evaluation.comparison import Comparison, compare
from offmap.evaluation.results import Results, SetInfo
from offmap.evaluation.rows import Row
from offmap.evaluation.run import evaluate
from offmap.evaluation.scores import of_scores, read_scores
from offmap.evaluation.summaries import Summary, read_summary

__all__ = [
    "Aggregate",
    "Comparison",
    "Results",
    "Row",
    "SetInfo",
    "Summary",
    "aggregate",
    "compare",
    "evaluate",
    "of_scores",
    "read_scores",
    "read_summary",
]
