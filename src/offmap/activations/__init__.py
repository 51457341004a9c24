"""The activations of a pass of a network, in memory and on disk."""

from offmap.activations.activations import Activations, log_mean, log_mean_probabilities
from offmap.activations.head import HasMembers, Head, Heads
from offmap.activations.sample import Sample
from offmap.activations.shards import Batch, Shards
from offmap.activations.taps import RULES, Tap, reduction

__all__ = [
    "RULES",
    "Activations",
    "Batch",
    "HasMembers",
    "Head",
    "Heads",
    "Sample",
    "Shards",
    "Tap",
    "log_mean",
    "log_mean_probabilities",
    "reduction",
]
