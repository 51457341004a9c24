"""Statistics that add: those of two parts give those of the whole, whatever the split.

A statistic is a frozen dataclass of tensors with ``of`` (one batch) and ``+``. Counts and sums
are kept in float64 or int64, so fitting can stream, resume and run in several processes.
"""

from offmap.stats.bank import Bank
from offmap.stats.classes import ClassMeans, ClassMoments, ClassScatters, Counts, Extremes
from offmap.stats.largest import Largest
from offmap.stats.mean import Mean
from offmap.stats.moments import Moments
from offmap.stats.quantile import ColumnHistogram, ColumnQuantiles, Histogram, Quantile
from offmap.stats.statistic import Product, Statistic

__all__ = [
    "Bank",
    "ClassMeans",
    "ClassMoments",
    "ClassScatters",
    "ColumnHistogram",
    "ColumnQuantiles",
    "Counts",
    "Extremes",
    "Histogram",
    "Largest",
    "Mean",
    "Moments",
    "Product",
    "Quantile",
    "Statistic",
]
