"""What one network pass leaves behind, in memory and on disk."""

from offmap.activations.activations import (
    Activations,
    HasMembers,
    Head,
    Heads,
    log_mean,
    log_mean_probabilities,
)
from offmap.activations.shards import Batch, Shards

__all__ = [
    "Activations",
    "Batch",
    "HasMembers",
    "Head",
    "Heads",
    "Shards",
    "log_mean",
    "log_mean_probabilities",
]
