"""Figures. Each function returns a matplotlib figure; ``save`` writes it atomically."""

from offmap.plots._panels import check_suffix, save
from offmap.plots.collapse import against, cosine_matrices, epoch_curves, plane
from offmap.plots.differences import differences
from offmap.plots.images import image_grid
from offmap.plots.neighbours import neighbours
from offmap.plots.open_set import confusion, oscr_curves, projection
from offmap.plots.ranks import ranks
from offmap.plots.reasons import reasons
from offmap.plots.scores import histograms, roc_curves
from offmap.plots.training import training_curves
from offmap.plots.watch import watch

__all__ = [
    "against",
    "check_suffix",
    "confusion",
    "cosine_matrices",
    "differences",
    "epoch_curves",
    "histograms",
    "image_grid",
    "neighbours",
    "oscr_curves",
    "plane",
    "projection",
    "ranks",
    "reasons",
    "roc_curves",
    "save",
    "training_curves",
    "watch",
]
